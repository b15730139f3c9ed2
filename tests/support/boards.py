"""Leaderboard entries made of chosen scores, without the archives that they come from."""

from collections.abc import Sequence
from typing import Any

from longwriter_core.files import sha256
from longwriter_core.text.diagnostics import diagnose
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement
from longwriter_eval.leaderboard.ranks import KINDS, prompt_scores
from longwriter_eval.runs import Sample
from longwriter_eval.scoring import Score
from longwriter_eval.stats.score_table import score_table
from longwriter_eval.submission.verification import table_claims

NO_FAULT = diagnose("Write.", "One plain sentence.", reached_limit=False)
BUCKETS = (("[0,500)", 300), ("[500,2k)", 1000), ("[2k,4k)", 3000), ("[4k,20k]", 9000))
TYPES = ("News Report", "Literature", "Functional Writing")


def run_of(
    qualities: Sequence[float | None], lengths: Sequence[float] | float = 80.0
) -> list[Score]:
    """The scores of a run, by S_q and S_l; None without a verdict. Buckets take turns."""
    found = []
    for n, quality in enumerate(qualities):
        bucket, required = BUCKETS[n % len(BUCKETS)]
        graded = {} if quality is None else dict.fromkeys((*DIMENSIONS, "score"), quality)
        length = lengths if isinstance(lengths, float) else lengths[n]
        sample = Sample(
            "t", f"longbench_write/{n:03d}", f"Prompt {n}.", TYPES[n % 3], required,
            ("en", "zh")[n % 2], "", {},
        )  # fmt: skip
        judgement = Judgement((), "", "", graded)
        found.append(Score(sample, "", bucket, 100 + n, length, NO_FAULT, judgement))
    return found


def entry_of(name: str, scores: Sequence[Score], **changes: Any) -> dict[str, Any]:
    """The entry of a submission of model `name` with these scores."""
    judge = {
        "requested": "j", "returned": "j", "endpoint": "private", "temperature": 0.5,
        "max_tokens": 1024, "request": {},
    }  # fmt: skip
    file = changes.get("file", f"{name}.zip")
    return {
        "sha256": sha256(file),
        "file": file,
        "reasons": [],
        "benchmark": scores[0].benchmark,
        "task_version": 1.1,
        "judge": {
            "judges": [judge], "repeats": 1, "prompt": "official", "prompt_sha256": "a" * 64,
        },
        "model": {"id": {"value": name, "source": "run"}, "parameters": None, "licence": None},
        "backend": {"endpoint": None},
        "submitter": None,
        "rejudged": None,
        "example": False,
        "date": "2026-03-01T00:00:00Z",
        "report": f"submissions/{sha256(file)[:16]}/report.html",
        "stated": dict.fromkeys(("cost_usd", "minutes", "words_per_usd", "words_per_minute")),
        "scores": {row["name"]: row for row in table_claims(score_table(scores), KINDS)},
        "prompt_scores": prompt_scores(scores),
        **changes,
    }  # fmt: skip
