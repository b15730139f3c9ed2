"""What the runs of a report are: their names, how they were made and judged, what to beware of."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tqdm import tqdm

from longwriter_core.llm import prices
from longwriter_core.redact import local_name, redact, redact_setting
from longwriter_eval.judge.judgement import Verdict
from longwriter_eval.pages import label
from longwriter_eval.pairwise.comparison import incompatibilities
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples
from longwriter_eval.stats.score_table import TableRow, score_table
from longwriter_eval.stats.thresholds import MIN_COVERAGE

BENCHMARKS = {
    "longbench_write": "LongBench-Write",
    "longwrite_demo": "Demo prompts",
    "longwrite_ruler": "LongWrite-Ruler",
}
RULER = "longwrite_ruler"

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class ScoredRun:
    """A run with its scores, and the name that it goes by in the report."""

    name: str
    run: Run
    scores: Sequence[Score]

    @cached_property
    def table(self) -> list[TableRow]:
        """The paper's table, for each of its benchmarks."""
        return score_table(self.scores)

    @cached_property
    def by_id(self) -> dict[str, Score]:
        """Its scores by prompt id."""
        return {score.sample.id: score for score in self.scores}

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Every verdict that there should be."""
        return [v for score in self.scores if score.judgement for v in score.judgement.verdicts]

    @property
    def is_repeated(self) -> bool:
        """Whether a response has several verdicts."""
        return any(score.judgement and len(score.judgement.verdicts) > 1 for score in self.scores)

    @cached_property
    def records(self) -> dict[str, Mapping[str, Any]]:
        """Task -> what this package put on record of it."""
        return {task: self.run.record(task) for task in sorted({s.task for s in self.run.samples})}

    @property
    def judges(self) -> list[tuple[str, str, str]]:
        """Model, prompt and hash of the prompt of every judge, each once."""
        return list(
            dict.fromkeys(
                (
                    str(record["judge"]["model"]),
                    str(record["judge"]["prompt"]),
                    str(record.get("judge_prompt_sha256")),
                )
                for record in self.records.values()
                if "judge" in record
            )
        )

    @property
    def benchmarks(self) -> list[str]:
        """Its benchmarks, in the order to show them in."""
        found = {score.benchmark for score in self.scores}
        return [*(name for name in BENCHMARKS if name in found), *sorted(found - set(BENCHMARKS))]

    @property
    def longest(self) -> int:
        """Words of its longest response."""
        return max((score.words for score in self.scores), default=0)

    @property
    def cost(self) -> float | None:
        """USD for the verdicts at list prices; None where a model has no price, or none judged."""
        spent = [
            prices.cost(v.model or "", v.prompt_tokens, v.completion_tokens)
            for v in self.verdicts
            if v.prompt_tokens is not None and v.completion_tokens is not None
        ]
        return sum(filter(None, spent)) if spent and None not in spent else None


def score_runs(runs: Sequence[Run]) -> list[ScoredRun]:
    """Score every run and give it a name of its own: its model, where that is enough.

    Raises InputError for a log that cannot be scored.
    """
    models = [model_name(run) for run in runs]
    shown = tqdm(list(zip(models, runs, strict=True)), "Scoring", leave=False, disable=None)
    scored = [ScoredRun(model, run, score_samples(run.samples)) for model, run in shown]
    named = []
    for number, (model, each) in enumerate(zip(models, scored, strict=True), 1):
        name, same = model, [other for other in scored if other.name == model]
        if len(same) > 1:
            by_judge = {tuple(other.judges) for other in same}
            judge = label(redact(", ".join(judge for judge, _, _ in each.judges)))
            name += f", judge {judge}" if len(by_judge) == len(same) and judge else f" ({number})"
        named.append(ScoredRun(name, each.run, each.scores))
    return named


def judging(scored: ScoredRun) -> Facts:
    """How the run was judged, what that cost, and how far the judge agrees with itself."""
    if not scored.judges:
        return [("Judge", "none")]
    verdicts = scored.verdicts
    asked = [score for score in scored.scores if score.judgement]
    judged = sum(score.status == "judged" for score in asked)
    missing = Counter(str(v.reason) for v in verdicts if not v.scores)
    spreads = [s.judgement.spread for s in asked if s.judgement and s.judgement.spread is not None]
    answered = Counter(v.model for v in verdicts if v.model)
    facts = [
        ("Judge", _list(model for model, _, _ in scored.judges)),
        ("Answered as", _list(f"{model} ({n:,})" for model, n in answered.most_common())),
        ("Judge's prompt", _list(f"{prompt} {sha[:12]}" for _, prompt, sha in scored.judges)),
        ("Responses judged", f"{judged:,} of {len(asked):,} ({judged / len(asked):.1%})"),
        ("Verdicts missing", _list(f"{reason} {n}" for reason, n in missing.most_common()) or "0"),
        ("Failed calls, tried again", f"{sum(v.retries for v in verdicts):,}"),
        ("Responses with judge's tags escaped", f"{_defused(asked):,}"),
    ]
    if spreads:
        spread = f"{statistics.fmean(spreads):.1f} (largest {max(spreads):.1f})"
        facts.append(("Spread of S_q between repeats, mean standard deviation", spread))
    unread = sum(max(0, v.asks - 1) for v in verdicts)
    besides = f", besides {unread:,} replies that could not be used" if unread else ""
    for kind in ("prompt", "completion"):
        tokens = sum(getattr(v, f"{kind}_tokens") or 0 for v in verdicts)
        facts.append((f"{kind.capitalize()} tokens", f"{tokens:,}{besides}" if tokens else ""))
    cost = prices.money(scored.cost)
    facts.append(("Cost at list prices", f"{cost}{besides}" if cost else "no price known"))
    return [(name, redact(value)) for name, value in facts]


def settings(scored: ScoredRun) -> Facts:
    """How the run was made, with the hashes of what it was made from; nothing secret."""
    results = scored.run.results
    config = results.get("config") or {}
    configs = {task: results["configs"][task] for task in scored.records}
    generation = {
        _arguments(each.get("generation_kwargs") or {}): None for each in configs.values()
    }
    template = results.get("chat_template_sha")
    seeds = [f"{k.removesuffix('_seed')} {v}" for k, v in config.items() if k.endswith("_seed")]
    versions = results.get("versions") or {}
    hashes = results.get("task_hashes") or {}
    facts = [
        ("Model", model_name(scored.run)),
        ("Backend", str(config.get("model") or "")),
        ("Arguments", _arguments(config.get("model_args") or {})),
        ("Generation", "; ".join(generation)),
        ("Overrides", _arguments(config.get("gen_kwargs") or {})),
        ("Revision", str(config.get("model_sha") or config.get("model_revision") or "")),
        ("Data type", str(config.get("model_dtype") or "")),
        ("Chat template", f"sha256 {template}" if template else ""),
        ("System instruction", str(results.get("system_instruction") or "")),
        ("Seeds", _list(seeds)),
        ("Limit", _number(config.get("limit") or "")),
        ("Date", _date(results.get("date"))),
        ("lm-eval", str(results.get("lm_eval_version") or "")),
        ("transformers", str(results.get("transformers_version") or "")),
        (
            "longwriter",
            _list(dict.fromkeys(str(r.get("version")) for r in scored.records.values())),
        ),
    ]
    for sha in dict.fromkeys(str(r.get("data_sha256")) for r in scored.records.values()):
        facts.append(("Prompts", f"sha256 {sha}"))
    for _, prompt, sha in scored.judges:
        facts.append(("Judge's prompt", f"{prompt}, sha256 {sha}"))
    for task in sorted(configs):
        version = f"version {versions[task]}" if task in versions else ""
        facts.append((task, ", ".join(filter(None, (version, hashes.get(task))))))
    facts.append(("Results file", scored.run.path.name))
    merged: dict[str, list[str]] = {}
    for name, value in facts:
        if _shown(value):
            merged.setdefault(name, []).append(redact(value))
    return [(name, "; ".join(values)) for name, values in merged.items()]


def warnings(scored: Sequence[ScoredRun]) -> list[str]:
    """What a reader must know before believing a number, a sentence each."""
    found = []
    for each in scored:
        asked = [score for score in each.scores if score.judgement]
        missing = [score for score in asked if score.status != "judged"]
        if missing:
            reasons = Counter(score.status for score in missing)
            enough = len(missing) <= (1 - MIN_COVERAGE) * len(asked)
            found.append(
                f"{each.name}: {len(missing)} of {len(asked)} responses have no verdict "
                f"({_list(f'{reason} {n}' for reason, n in reasons.most_common())})"
                + (
                    ". Means leave them out."
                    if enough
                    else f". Where under {MIN_COVERAGE:.0%} are judged, there is no quality score."
                )
                + " To ask for them again: longwriter score."
            )
        limit = (each.run.results.get("config") or {}).get("limit")
        if limit:
            found.append(
                f"{each.name}: made with --limit {_number(limit)}, so these are not the "
                "benchmark's scores."
            )
    first, *others = scored
    for other in others:
        if differences := incompatibilities(first.run, other.run, first.by_id, other.by_id):
            found.append(
                f"{first.name} and {other.name} are not comparable: {'; '.join(differences)}."
            )
    shared = set.intersection(*(set(each.by_id) for each in scored))
    if any(set(each.by_id) != shared for each in scored):
        found.append(
            f"The runs do not have the same prompts: {len(shared):,} are in all of them. "
            "longwriter compare pairs them."
        )
    return [redact(each) for each in found]


def model_name(run: Run) -> str:
    """The model's name, fit to be shown; of a local checkpoint, the folder's."""
    results = run.results
    arguments = (results.get("config") or {}).get("model_args")
    given = arguments if isinstance(arguments, dict) else {}
    name = str(
        results.get("model_name")
        or given.get("model")
        or given.get("pretrained")
        or run.folder.name
    )
    return label(redact(local_name(name)))


def _arguments(arguments: Any) -> str:
    """Arguments as name=value, without keys, passwords and local folders."""
    if isinstance(arguments, str):
        pairs = [part.partition("=")[::2] for part in arguments.split(",") if part]
    else:
        pairs = list(arguments.items())
    return ", ".join(f"{name}={redact_setting(str(name), value)}" for name, value in pairs)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _date(stamp: Any) -> str:
    if not isinstance(stamp, int | float):
        return ""
    return f"{datetime.fromtimestamp(stamp, UTC):%Y-%m-%d %H:%M} UTC"


def _defused(scores: Iterable[Score]) -> int:
    return sum(
        any(v.defused for v in score.judgement.verdicts) for score in scores if score.judgement
    )


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _shown(value: str) -> bool:
    return bool(value.strip())
