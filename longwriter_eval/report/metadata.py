"""Metadata of the runs in a report: names, settings, judging and warnings. Hides secrets."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tqdm import tqdm

from longwriter_core.llm import profiles
from longwriter_core.redact import local_name, redact, redact_setting
from longwriter_eval.judge.verdict import Verdict, segment_scores
from longwriter_eval.pages import label
from longwriter_eval.pairwise.comparison import incompatibilities
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples, value
from longwriter_eval.stats.estimates import spread
from longwriter_eval.stats.score_table import TableRow, score_table
from longwriter_eval.stats.thresholds import MIN_COVERAGE

# Display names, in the order of the page.
BENCHMARKS = {
    "longbench_write": "LongBench-Write",
    "longwrite_demo": "Demo prompts",
    "longwrite_ruler": "LongWrite-Ruler",
}
LONGBENCH_WRITE, RULER = "longbench_write", "longwrite_ruler"
LANGUAGES = {"en": "English", "zh": "Chinese"}
# LongWrite-Ruler uses the Chinese names of LongBench-Write's types.
TYPES = {
    "社区论坛": "Community Forum",
    "文学与创作": "Literature and Creative Writing",
    "科普介绍": "Popular Science",
    "学术与专著": "Academic and Monograph",
}
FAULT_TITLES = {
    "empty": "empty",
    "cut_off": "cut off",
    "repetition": "repetition (share of text)",
    "wrong_language": "wrong language",
    "refusal": "refusal",
    "to_be_continued": "to be continued",
    "leftover_thinking": "leftover thinking",
}

Settings = list[tuple[str, str]]  # name and value, in display order


@dataclass(frozen=True)
class ScoredRun:
    """A run with its scores and its name in the report."""

    name: str
    run: Run
    scores: Sequence[Score]
    known_table: Sequence[TableRow] | None = None

    @cached_property
    def table(self) -> Sequence[TableRow]:
        """The score table of each of its benchmarks."""
        return score_table(self.scores) if self.known_table is None else self.known_table

    @cached_property
    def by_id(self) -> dict[str, Score]:
        """Scores by prompt id."""
        return {score.sample.id: score for score in self.scores}

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, including those without scores."""
        judgements = [score.judgement for score in self.scores if score.judgement]
        return [v for each in judgements for v in (*each.verdicts, *each.segments)]

    @property
    def has_repeats(self) -> bool:
        """Whether any response has several verdicts."""
        return any(score.judgement and len(score.judgement.verdicts) > 1 for score in self.scores)

    @property
    def has_segments(self) -> bool:
        """Whether parts of its responses were judged."""
        return any(score.judgement and score.judgement.segments for score in self.scores)

    @cached_property
    def segment_scores(self) -> list[list[float]]:
        """S_q of the parts of each response all of whose parts have a verdict."""
        rows = [segment_scores(s.judgement.segments) for s in self.scores if s.judgement]
        known = [[score for score in row if score is not None] for row in rows]
        return [k for k, row in zip(known, rows, strict=True) if row and len(k) == len(row)]

    @property
    def drifts(self) -> list[float]:
        """The slope of quality along each of these responses."""
        drifts = [s.judgement.drift for s in self.scores if s.judgement]
        return [drift for drift in drifts if drift is not None]

    @cached_property
    def records(self) -> dict[str, Mapping[str, Any]]:
        """Task -> this package's record of it."""
        return {task: self.run.record(task) for task in sorted({s.task for s in self.run.samples})}

    @property
    def judges(self) -> list[tuple[str, str, str]]:
        """Model, prompt name and prompt hash of every judge, without duplicates."""
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
        """Its benchmarks, in the order of the page."""
        names = {score.benchmark for score in self.scores}
        return [*(name for name in BENCHMARKS if name in names), *sorted(names - set(BENCHMARKS))]

    @property
    def max_words(self) -> int:
        """Words of the longest response."""
        return max((score.words for score in self.scores), default=0)

    @property
    def cost(self) -> float | None:
        """USD for the verdicts at list prices; None if unjudged or any price is unknown."""
        costs = [
            profiles.cost(v.model or "", v.prompt_tokens, v.completion_tokens, v.cached_tokens or 0)
            for v in self.verdicts
            if v.prompt_tokens is not None and v.completion_tokens is not None
        ]
        return sum(filter(None, costs)) if costs and None not in costs else None


def score_runs(
    runs: Sequence[Run],
    known: Sequence[tuple[Sequence[Score], Sequence[TableRow]]] | None = None,
) -> list[ScoredRun]:
    """Score every run and give it a unique name: its model, if that is unique.

    `known` are the scores and the score table of every run, if they were computed before.

    Raises InputError for a log that cannot be scored.
    """
    if known is None:
        progress = tqdm(runs, "Scoring", leave=False, disable=None)
        scored = [ScoredRun(model_name(run), run, score_samples(run.samples)) for run in progress]
    else:
        scored = [
            ScoredRun(model_name(run), run, scores, table)
            for run, (scores, table) in zip(runs, known, strict=True)
        ]
    named = []
    for number, run in enumerate(scored, 1):
        name, same_model = run.name, [other for other in scored if other.name == run.name]
        if len(same_model) > 1:
            judges = {tuple(other.judges) for other in same_model}
            judge = label(redact(", ".join(model for model, _, _ in run.judges)))
            is_unique = len(judges) == len(same_model) and judge
            name += f", judge {judge}" if is_unique else f" ({number})"
        named.append(ScoredRun(name, run.run, run.scores, run.known_table))
    return named


def model_name(run: Run) -> str:
    """The model's name for display; for a local checkpoint, the name of its folder."""
    results = run.results
    arguments = (results.get("config") or {}).get("model_args")
    if not isinstance(arguments, dict):
        arguments = {}
    candidates = (results.get("model_name"), arguments.get("model"), arguments.get("pretrained"))
    return label(redact(local_name(str(next(filter(None, candidates), run.folder.name)))))


def judging(run: ScoredRun) -> Settings:
    """How the run was judged, the cost, and the spread between repeated verdicts."""
    if not run.judges:
        return [("Judge", "none")]
    verdicts = run.verdicts
    judgements = [score.judgement for score in run.scores if score.judgement]
    judged = sum(score.status == "judged" for score in run.scores)
    missing = Counter(str(v.reason) for v in verdicts if not v.scores)
    spreads = [judgement.spread for judgement in judgements if judgement.spread is not None]
    answered = Counter(v.model for v in verdicts if v.model)
    escaped = sum(any(v.escaped for v in judgement.verdicts) for judgement in judgements)
    rows = [
        ("Judge", ", ".join(model for model, _, _ in run.judges)),
        ("Model that answered", ", ".join(f"{name} ({n:,})" for name, n in answered.most_common())),
        ("Judge prompt", ", ".join(f"{prompt} {sha[:12]}" for _, prompt, sha in run.judges)),
        ("Responses judged", f"{judged:,} of {len(judgements):,} ({judged / len(judgements):.1%})"),
        ("Missing verdicts", _counts(missing) or "0"),
        ("Failed calls that were retried", f"{sum(v.retries for v in verdicts):,}"),
        ("Responses with escaped prompt tags", f"{escaped:,}"),
    ]
    if spreads:
        spread = f"{statistics.fmean(spreads):.1f} (largest {max(spreads):.1f})"
        rows.append(("Mean standard deviation of S_q between repeats", spread))
    unusable = sum(max(0, v.asks - 1) for v in verdicts)
    note = f", excluding {unusable:,} unusable replies" if unusable else ""
    for kind in ("prompt", "completion"):
        tokens = sum(getattr(v, f"{kind}_tokens") or 0 for v in verdicts)
        rows.append((f"{kind.capitalize()} tokens", f"{tokens:,}{note}" if tokens else ""))
    cost = profiles.money(run.cost)
    rows.append(("Cost at list prices", f"{cost}{note}" if cost else "unknown"))
    return [(name, redact(value)) for name, value in rows]


def settings(run: ScoredRun) -> Settings:
    """How the run was made, with the hashes of its inputs; without secrets or local paths."""
    results = run.run.results
    config = results.get("config") or {}
    repeats = max((score.sample.repeats for score in run.scores), default=1)
    deviations = {
        symbol: spread([value(score, f"{name}_score") for score in run.scores])
        for name, symbol in (("overall", "S̄"), ("length", "S_l"), ("quality", "S_q"))
    }
    spreads = [
        f"{symbol} {found:.1f}" for symbol, found in deviations.items() if not math.isnan(found)
    ]
    configs = {task: results["configs"][task] for task in run.records}
    generation = dict.fromkeys(
        _arguments(c.get("generation_kwargs") or {}) for c in configs.values()
    )
    template = results.get("chat_template_sha")
    seeds = [f"{k.removesuffix('_seed')} {v}" for k, v in config.items() if k.endswith("_seed")]
    versions = results.get("versions") or {}
    hashes = results.get("task_hashes") or {}
    rows = [
        ("Model", model_name(run.run)),
        ("Backend", config.get("model")),
        ("Model arguments", _arguments(config.get("model_args") or {})),
        ("Generation", "; ".join(generation)),
        ("Generation overrides", _arguments(config.get("gen_kwargs") or {})),
        ("Revision", config.get("model_sha") or config.get("model_revision")),
        ("Data type", config.get("model_dtype")),
        ("Chat template", template and f"sha256 {template}"),
        ("System instruction", results.get("system_instruction")),
        ("Seeds", ", ".join(seeds)),
        (
            "Responses to each prompt",
            repeats > 1 and f"{repeats}; mean standard deviation: {', '.join(spreads)}",
        ),
        ("Limit", _number(config.get("limit") or "")),
        ("Date", _date(results.get("date"))),
        ("lm-eval", results.get("lm_eval_version")),
        ("transformers", results.get("transformers_version")),
        ("longwriter", ", ".join(_distinct(run, "version"))),
    ]
    rows += [("Prompts", f"sha256 {sha}") for sha in _distinct(run, "data_sha256")]
    rows += [("Judge prompt", f"{prompt}, sha256 {sha}") for _, prompt, sha in run.judges]
    for task in sorted(configs):
        version = f"version {versions[task]}" if task in versions else ""
        rows.append((task, ", ".join(filter(None, (version, hashes.get(task))))))
    rows.append(("Results file", run.run.path.name))
    merged: dict[str, list[str]] = {}
    for name, entry in rows:
        if entry and (text := str(entry)).strip():
            merged.setdefault(name, []).append(redact(text))
    return [(name, "; ".join(values)) for name, values in merged.items()]


def warnings(scored: Sequence[ScoredRun]) -> list[str]:
    """Problems that limit what the numbers mean, one entry each."""
    messages = []
    for run in scored:
        asked = [score for score in run.scores if score.judgement]
        missing = Counter(score.status for score in asked if score.status != "judged")
        if missing:
            is_covered = missing.total() <= (1 - MIN_COVERAGE) * len(asked)
            messages.append(
                f"{run.name}: {missing.total()} of {len(asked)} responses have no verdict "
                f"({_counts(missing)}). "
                + (
                    "Means exclude them."
                    if is_covered
                    else f"Groups with less than {MIN_COVERAGE:.0%} judged have no quality score."
                )
                + " To retry them, run longwriter score."
            )
        if run.run.gap:
            messages.append(
                f"{run.name}: {run.run.gap}. All numbers here are those of the responses that "
                "were kept, so they are not scores of the full benchmark."
            )
        limit = (run.run.results.get("config") or {}).get("limit")
        if limit:
            messages.append(
                f"{run.name}: the run used --limit {_number(limit)}, so these are not scores of "
                "the full benchmark."
            )
    first, *others = scored
    for other in others:
        if reasons := incompatibilities(first.run, other.run, first.by_id, other.by_id):
            messages.append(
                f"{first.name} and {other.name} are not comparable: {'; '.join(reasons)}."
            )
    shared = set.intersection(*(set(run.by_id) for run in scored))
    if any(set(run.by_id) != shared for run in scored):
        messages.append(
            f"The runs have different prompts; {len(shared):,} are in all runs. "
            "Differences between runs are over the prompts that both answered."
        )
    return [redact(message) for message in messages]


def _arguments(arguments: Any) -> str:
    """Arguments as name=value, redacted; lm-eval records a mapping, or the text as typed."""
    if isinstance(arguments, str):
        pairs = [part.partition("=")[::2] for part in arguments.split(",") if part]
    else:
        pairs = list(arguments.items())
    return ", ".join(f"{name}={redact_setting(str(name), value)}" for name, value in pairs)


def _distinct(run: ScoredRun, name: str) -> Iterable[str]:
    """The distinct values of a field in the records of the run's tasks."""
    return dict.fromkeys(str(record.get(name)) for record in run.records.values())


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _date(timestamp: Any) -> str:
    if not isinstance(timestamp, int | float):
        return ""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
