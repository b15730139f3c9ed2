"""`longwriter report`: one page that shows what a run wrote and how it was scored.

    write_report([load_run(Path("runs/mine"))], Path("report.html"))

The page stands alone: it asks for nothing, runs only its own script, and holds every response.
Several runs stand side by side in it, prompt by prompt.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from tqdm import tqdm

from longwriter_eval import __version__
from longwriter_eval.agreement import Agreement, agreement
from longwriter_eval.assets import sha256, write_atomically
from longwriter_eval.diagnostics import METRICS as DIAGNOSTICS
from longwriter_eval.errors import InputError
from longwriter_eval.pages import json_for_script, label, plain, render
from longwriter_eval.quality import DIMENSIONS
from longwriter_eval.report import facts, figures, texts
from longwriter_eval.report.facts import BENCHMARKS, RULER, ScoredRun
from longwriter_eval.samples import Run
from longwriter_eval.scores import Score
from longwriter_eval.stats import Interval, Row, metric_interval

# The table's columns: metric -> its heading, and what that stands for.
COLUMNS = {
    "overall_score": (Markup("S̄"), "overall: the mean of S_l and S_q"),
    "length_score": (Markup("S<sub>l</sub>"), "length score"),
    "quality_score": (
        Markup("S<sub>q</sub>"),
        "quality score: the mean of the six dimensions",
    ),
    **{f"quality_{metric}": (name, name) for metric, name in DIMENSIONS.items()},
    "output_words": ("Words", "produced words"),
}
_GROUPS = {"all": "", "bucket": "Required words", "language": "Language", "type": "Type"}
_LANGUAGES = {"en": "English", "zh": "Chinese"}
_FAULTS = {
    "empty": "empty",
    "cut_off": "cut off",
    "repetition": "repetition (share of text)",
    "wrong_language": "wrong language",
    "refusal": "refusal",
    "to_be_continued": "to be continued",
}
_REPEATS_MUCH = 0.1  # share of the text from which on repetition counts as a fault in the list
_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def write_report(
    runs: Sequence[Run],
    path: Path,
    *,
    figure_files: Path | None = None,
    judged_before: Sequence[Run] = (),
) -> list[Path]:
    """Write the page to `path`, and its figures as SVG and PNG into the folder `figure_files`.

    `judged_before` are older results with the same responses, such as another judge's: how far the
    verdicts agree is said for all of them, and nothing else of them is shown.

    Returns what it wrote, the page first. Raises InputError where the runs hold nothing to report,
    or what cannot be scored, and OSError.
    """
    if not any(run.samples for run in runs):
        raise InputError("there is nothing to report: the runs hold no samples")
    scored = facts.score_runs([run for run in runs if run.samples])
    drawn = draw(scored)
    is_judged_again = len(scored) > 1 or judged_before or scored[0].is_repeated
    agreements = agreement([s.run for s in scored] + [*judged_before]) if is_judged_again else []
    html = page(scored, drawn, agreements)
    write_atomically(path, html.encode("utf-8", "backslashreplace"))
    written = [path]
    if figure_files:
        for figure in drawn:
            for kind, data in (("svg", figure.svg.encode()), ("png", figure.png())):
                written.append(figure_files / f"{figure.name}.{kind}")
                write_atomically(written[-1], data)
    return written


def page(
    scored: Sequence[ScoredRun],
    drawn: Sequence[figures.Figure],
    agreements: Sequence[Agreement] = (),
) -> str:
    """The page as HTML."""
    prompts = _prompts(scored)
    names = [each.name for each in scored]
    listed = {
        "runs": names,
        "dimensions": list(DIMENSIONS.values()),
        "markEvery": texts.MARK_EVERY,
        "prompts": [_listed(of_runs) for of_runs in prompts],
    }
    return render(
        "report.html",
        "report.js",
        {
            "title": " and ".join(dict.fromkeys(facts.model_name(s.run) for s in scored)),
            "names": names,
            "benchmarks": _benchmarks(scored),
            "warnings": [plain(warning) for warning in facts.warnings(scored)],
            "summaries": [_summary(each) for each in scored],
            "tables": _tables(scored),
            "figures": [(f, Markup(figures.themed(f, n))) for n, f in enumerate(drawn)],
            "judging": _beside([facts.judging(each) for each in scored]),
            "agreements": [label(facts.clean(each.raters)) for each in agreements],
            "alphas": [
                (name, [_alpha(each.alphas[metric]) for each in agreements])
                for metric, name in DIMENSIONS.items()
            ],
            "settings": _beside([facts.settings(each) for each in scored]),
            "listed": Markup(json_for_script(listed)),
            "packed": [
                Markup(texts.pack(of_runs))
                for of_runs in tqdm(prompts, "Packing the responses", leave=False, disable=None)
            ],
            "version": __version__,
        },
    )


def draw(scored: Sequence[ScoredRun]) -> list[figures.Figure]:
    """Every figure that the runs have the numbers for."""
    names = [each.name for each in scored]
    places = {_key(score): n for n, of in enumerate(_prompts(scored)) for score in of if score}
    drawn = []
    all_points = [
        _points([s for s in each.scores if s.benchmark != RULER], places) for each in scored
    ]
    frame = [point for points in all_points for point in points]
    for number, (name, each, points) in enumerate(zip(names, scored, all_points, strict=True), 1):
        if points:
            several = len(scored) > 1
            drawn.append(
                figures.scatter(
                    f"length-{number}" if several else "length",
                    f"Length asked for and produced{f': {name}' if several else ''}",
                    points,
                    "quality score" if each.judges else "length score",
                    frame,
                )
            )
    tables = [{(row.benchmark, row.kind, row.name): row for row in s.table} for s in scored]
    main = next(
        (b for b in BENCHMARKS if b != RULER and any((b, "all", "all") in t for t in tables)), ""
    )
    if main:
        drawn += _score_figures(names, tables, main)
    rulers = [_points([s for s in each.scores if s.benchmark == RULER], places) for each in scored]
    if any(rulers):
        drawn.append(figures.ruler([(n, of) for n, of in zip(names, rulers, strict=True)]))
    drawn.append(
        figures.intervals(
            "diagnostics",
            "What goes wrong",
            "Share of responses with each fault; for repetition, the mean share of the text that "
            "repeats an earlier passage. Heuristics: open a response to see what they saw.",
            [
                (
                    "% of responses",
                    [
                        (title, [_percent(each.scores, metric) for each in scored])
                        for metric, title in _FAULTS.items()
                    ],
                )
            ],
            names,
            is_score=False,
        )
    )
    return drawn


def _score_figures(
    names: Sequence[str], tables: Sequence[Mapping[tuple[str, str, str], Row]], main: str
) -> list[figures.Figure]:
    """The scores by required length, and the six dimensions where a judge gave them."""
    keys = list(dict.fromkeys(key for t in tables for key in t if key[0] == main))
    rows = [("all prompts", k) for k in keys if k[1] == "all"]
    rows += [(k[2], k) for k in keys if k[1] == "bucket"]

    def estimates(key: tuple[str, str, str], metric: str) -> list[Interval]:
        return [t[key].metrics[metric] if key in t else _NOTHING for t in tables]

    panels = [
        (title, [(name, estimates(key, metric)) for name, key in rows])
        for metric, title in (
            ("length_score", "length score S_l"),
            ("quality_score", "quality score S_q"),
        )
    ]
    panels = [p for p in panels if any(not math.isnan(e.mean) for _, of in p[1] for e in of)]
    drawn = [
        figures.intervals(
            "buckets",
            "Scores by required length",
            f"{BENCHMARKS[main]}, means with 95% intervals over prompts.",
            panels,
            names,
        )
    ]
    dimensions = [
        (name, estimates((main, "all", "all"), f"quality_{metric}"))
        for metric, name in DIMENSIONS.items()
    ]
    if any(not math.isnan(e.mean) for _, of in dimensions for e in of):
        drawn.append(
            figures.intervals(
                "dimensions",
                "The six dimensions of quality",
                f"{BENCHMARKS[main]}, as the judge sees them: 1 to 5 put on 0 to 100, with 95% "
                "intervals over prompts.",
                [("score", dimensions)],
                names,
            )
        )
    return drawn


def _points(scores: Iterable[Score], places: Mapping[tuple[str, str], int]) -> list[figures.Point]:
    return [
        figures.Point(
            label(score.sample.id),
            score.sample.required,
            score.words,
            score.quality_score if score.judgement else score.length_score,
            f"#p{places[_key(score)]}",
        )
        for score in scores
    ]


def _percent(scores: Iterable[Score], metric: str) -> Interval:
    found = metric_interval(scores, metric)
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high, found.n)


def _key(score: Score) -> tuple[str, str]:
    """Runs share a prompt where id and text are the same."""
    return score.sample.id, sha256(score.sample.prompt.encode("utf-8", "backslashreplace"))


def _prompts(scored: Sequence[ScoredRun]) -> list[list[Score | None]]:
    """For every prompt, each run's score of it: by benchmark, then by required length."""
    by_run = [{_key(score): score for score in each.scores} for each in scored]
    found = {key: score for of_run in by_run for key, score in of_run.items()}
    order = [*BENCHMARKS]

    def rank(key: tuple[str, str]) -> tuple[Any, ...]:
        name = found[key].benchmark
        place = order.index(name) if name in order else len(order)
        return place, name, found[key].sample.required, key

    return [[of_run.get(key) for of_run in by_run] for key in sorted(found, key=rank)]


def _benchmarks(scored: Sequence[ScoredRun]) -> list[str]:
    found = dict.fromkeys(name for each in scored for name in each.benchmarks)
    return [
        f"{label(BENCHMARKS.get(name, name))} "
        f"({max(sum(s.benchmark == name for s in each.scores) for each in scored):,} prompts)"
        for name in found
    ]


def _summary(scored: ScoredRun) -> list[tuple[str, str, str]]:
    """The run in a few numbers: title, value, and what qualifies it."""
    rows = {row.benchmark: row for row in scored.table if row.kind == "all"}
    main = next((rows[name] for name in scored.benchmarks if name != RULER), None)
    found = []
    if main:
        for metric in ("overall_score", "length_score", "quality_score"):
            number = main.metrics[metric]
            if not math.isnan(number.mean):
                found.append((COLUMNS[metric][0], f"{number.mean:.1f}", _range(number, 1)))
    elif RULER in rows:
        number = rows[RULER].metrics["length_score"]
        found.append((COLUMNS["length_score"][0], f"{number.mean:.1f}", _range(number, 1)))
    found.append(("Longest output", f"{scored.longest:,}", "words"))
    asked = [score for score in scored.scores if score.judgement]
    if asked:
        judged = sum(score.status == "judged" for score in asked)
        found.append(("Judged", f"{judged / len(asked):.0%}", f"{judged:,} of {len(asked):,}"))
    return found


def _tables(scored: Sequence[ScoredRun]) -> list[dict[str, Any]]:
    """Per benchmark: its columns, and groups of rows, each with a line per run."""
    found = []
    for benchmark in dict.fromkeys(name for each in scored for name in each.benchmarks):
        rows = [
            {(r.kind, r.name): r for r in each.table if r.benchmark == benchmark} for each in scored
        ]
        columns = [
            metric
            for metric in COLUMNS
            if any(not math.isnan(r.metrics[metric].mean) for of in rows for r in of.values())
        ]
        is_judged = any(not math.isnan(r.coverage) for of in rows for r in of.values())
        groups: dict[str, list[dict[str, Any]]] = {}
        for kind, name in dict.fromkeys(key for of_run in rows for key in of_run):
            lines = [
                {"run": number, **_line(of_run[kind, name], columns, is_judged=is_judged)}
                for number, of_run in enumerate(rows)
                if (kind, name) in of_run
            ]
            groups.setdefault(kind, []).append({"name": _row_name(kind, name), "lines": lines})
        for kind in ("language", "type"):
            # one of a kind is all of them; the ruler has two instructions of each type
            if len(groups.get(kind, ())) == 1 or (benchmark, kind) == (RULER, "type"):
                del groups[kind]
        found.append(
            {
                "title": label(BENCHMARKS.get(benchmark, benchmark)),
                "columns": [COLUMNS[metric] for metric in columns],
                "is_judged": is_judged,
                "groups": [(_GROUPS[kind], of_kind) for kind, of_kind in groups.items()],
            }
        )
    return found


def _line(row: Row, columns: Sequence[str], *, is_judged: bool) -> dict[str, Any]:
    digits = {"output_words": 0}
    cells = []
    for metric in columns:
        number, places = row.metrics[metric], digits.get(metric, 1)
        mean = "–" if math.isnan(number.mean) else f"{number.mean:,.{places}f}"
        cells.append((mean, _range(number, places)))
    coverage = "–" if math.isnan(row.coverage) else f"{row.coverage:.0%}"
    return {"n": f"{row.n:,}", "cells": cells, "coverage": coverage if is_judged else None}


def _row_name(kind: str, name: str) -> str:
    if kind == "all":
        return "All prompts"
    return label(_LANGUAGES.get(name, name) if kind == "language" else name)


def _range(number: Interval, digits: int) -> str:
    if math.isnan(number.low):
        return ""
    return f"{number.low:,.{digits}f}–{number.high:,.{digits}f}"


def _alpha(number: Interval) -> tuple[str, str]:
    if math.isnan(number.mean):
        return "all grades are the same", ""
    limits = "" if math.isnan(number.low) else f"{number.low:.2f} to {number.high:.2f}"
    return f"{number.mean:.2f}", limits  # a dash would read as one more minus


def _beside(of_runs: Sequence[facts.Facts]) -> list[tuple[str, list[str]]]:
    """Facts by name, with a value per run; "" where a run has none."""
    names = dict.fromkeys(name for of_run in of_runs for name, _ in of_run)
    return [
        (label(name), [plain(dict(of_run).get(name, "")) for of_run in of_runs]) for name in names
    ]


def _listed(of_runs: Sequence[Score | None]) -> dict[str, Any]:
    """What the list of prompts shows of one, and filters and sorts by."""
    first = next(score for score in of_runs if score)
    prompt = " ".join(first.sample.prompt.split())
    return {
        "id": label(first.sample.id),
        "benchmark": label(BENCHMARKS.get(first.benchmark, first.benchmark)),
        "type": label(first.sample.type),
        "language": label(_LANGUAGES.get(first.sample.language, first.sample.language)),
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
            _FAULTS[name].partition(" (")[0]
            for name in DIAGNOSTICS
            if found[name] >= (_REPEATS_MUCH if name == "repetition" else 1)
        ],
    }
