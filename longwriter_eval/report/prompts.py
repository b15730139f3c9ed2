"""The prompts of the runs, each with every run's response, and as the page's list shows them."""

from collections.abc import Sequence
from typing import Any

from longwriter_core.files import sha256
from longwriter_core.text.diagnostics import METRICS as DIAGNOSTICS
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import label
from longwriter_eval.report.metadata import BENCHMARKS, ScoredRun
from longwriter_eval.scoring import Score

LANGUAGES = {"en": "English", "zh": "Chinese"}
FAULTS = {
    "empty": "empty",
    "cut_off": "cut off",
    "repetition": "repetition (share of text)",
    "wrong_language": "wrong language",
    "refusal": "refusal",
    "to_be_continued": "to be continued",
}
_REPEATS_MUCH = 0.1  # share of the text from which on repetition counts as a fault in the list


def key_of(score: Score) -> tuple[str, str]:
    """Runs share a prompt where id and text are the same."""
    return score.sample.id, sha256(score.sample.prompt.encode("utf-8", "backslashreplace"))


def by_prompt(scored: Sequence[ScoredRun]) -> list[list[Score | None]]:
    """For every prompt, each run's score of it: by benchmark, then by required length."""
    by_run = [{key_of(score): score for score in each.scores} for each in scored]
    found = {key: score for of_run in by_run for key, score in of_run.items()}
    order = [*BENCHMARKS]

    def rank(key: tuple[str, str]) -> tuple[Any, ...]:
        name = found[key].benchmark
        place = order.index(name) if name in order else len(order)
        return place, name, found[key].sample.required, key

    return [[of_run.get(key) for of_run in by_run] for key in sorted(found, key=rank)]


def listed(of_runs: Sequence[Score | None]) -> dict[str, Any]:
    """What the list of prompts shows of one, and filters and sorts by."""
    first = next(score for score in of_runs if score)
    prompt = " ".join(first.sample.prompt.split())
    return {
        "id": label(first.sample.id),
        "benchmark": label(BENCHMARKS.get(first.benchmark, first.benchmark)),
        "type": label(first.sample.type),
        "language": label(LANGUAGES.get(first.sample.language, first.sample.language)),
        "bucket": first.bucket,
        "required": first.sample.required,
        "excerpt": label(prompt),
        "runs": [score and _listed_score(score) for score in of_runs],
    }


def _listed_score(score: Score) -> dict[str, Any]:
    found = score.diagnostics.as_dict()
    quality = score.quality
    return {
        "words": score.words,
        "length": score.length_score,
        "quality": score.quality_score,
        "overall": score.overall_score,
        "dimensions": [quality[name] for name in DIMENSIONS] if quality else None,
        "status": label(score.status),
        "repetition": found["repetition"],
        "faults": [
            FAULTS[name].partition(" (")[0]
            for name in DIAGNOSTICS
            if found[name] >= (_REPEATS_MUCH if name == "repetition" else 1)
        ],
    }
