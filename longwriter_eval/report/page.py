"""The report page: summary, score tables, figures, settings and every response."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from markupsafe import Markup
from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.redact import redact
from longwriter_core.text.printable import printable
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import json_for_script, label, render
from longwriter_eval.report import metadata
from longwriter_eval.report.drawing import Figure, themed_svg
from longwriter_eval.report.figures import draw_figures
from longwriter_eval.report.metadata import BENCHMARKS, LANGUAGES, RULER, TYPES, ScoredRun, Settings
from longwriter_eval.report.responses import MARK_EVERY, group_by_prompt, listing, pack
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score
from longwriter_eval.stats.agreement import Agreement, agreement
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.score_table import TableRow
from longwriter_eval.version import __version__

# Columns of the score tables: metric -> heading and its explanation.
_COLUMNS = {
    "overall_score": (Markup("S̄"), "overall score: the mean of S_l and S_q"),
    "length_score": (Markup("S<sub>l</sub>"), "length score"),
    "quality_score": (Markup("S<sub>q</sub>"), "quality score: the mean of the six dimensions"),
    **{f"quality_{metric}": (name, name) for metric, name in DIMENSIONS.items()},
    "output_words": ("Words", "mean words per response"),
}
_GROUP_TITLES = {"all": "", "bucket": "Required words", "language": "Language", "type": "Type"}


def write_report(
    runs: Sequence[Run],
    path: Path,
    *,
    figure_files: Path | None = None,
    judged_before: Sequence[Run] = (),
    scores: Sequence[tuple[Sequence[Score], Sequence[TableRow]]] | None = None,
) -> list[Path]:
    """Write the page to `path`, and its figures as SVG and PNG into the folder `figure_files`.

    `judged_before` are older results for the same responses, for example by another judge: they
    are used only to report the agreement between verdicts. `scores` are the scores and the score
    table of every run, if they are known already.

    Returns the files written, the page first. Raises InputError if the runs hold no samples or
    cannot be scored, and OSError.
    """
    runs_with_samples = [run for run in runs if run.samples]
    if not runs_with_samples:
        raise InputError("there is nothing to report: the runs contain no samples")
    scored = metadata.score_runs(runs_with_samples, scores)
    figures = draw_figures(scored)
    has_several_verdicts = len(scored) > 1 or judged_before or scored[0].has_repeats
    agreements = agreement(
        [s.run for s in scored] + [*judged_before] if has_several_verdicts else []
    )
    html = _render_page(scored, figures, agreements)
    write_atomically(path, html.encode("utf-8", "backslashreplace"))
    written = [path]
    if figure_files:
        for figure in figures:
            for extension, data in (("svg", figure.svg.encode()), ("png", figure.png())):
                written.append(figure_files / f"{figure.name}.{extension}")
                write_atomically(written[-1], data)
    return written


def _render_page(
    scored: Sequence[ScoredRun], figures: Sequence[Figure], agreements: Sequence[Agreement]
) -> str:
    prompts = group_by_prompt(scored)
    names = [run.name for run in scored]
    data = {
        "runs": names,
        "dimensions": list(DIMENSIONS.values()),
        "markEvery": MARK_EVERY,
        "prompts": [listing(scores) for scores in prompts],
    }
    return render(
        "report.html",
        "report.js",
        {
            "title": " and ".join(dict.fromkeys(metadata.model_name(s.run) for s in scored)),
            "names": names,
            "benchmarks": [_benchmark_title(name, scored) for name in _benchmarks(scored)],
            "warnings": [printable(text, None) for text in metadata.warnings(scored)],
            "summaries": [_summary(run) for run in scored],
            "tables": [_score_table(benchmark, scored) for benchmark in _benchmarks(scored)],
            "figures": [(f, Markup(themed_svg(f, number))) for number, f in enumerate(figures)],
            "judging": _side_by_side([metadata.judging(run) for run in scored]),
            "agreements": [label(redact(agreement.raters)) for agreement in agreements],
            "judge_pairs": [
                printable(redact(str(pair)), None)
                for agreement in agreements
                for pair in agreement.pairs
            ],
            "alphas": [
                (name, [_alpha_cell(agreement.alphas[metric]) for agreement in agreements])
                for metric, name in DIMENSIONS.items()
            ],
            "settings": _side_by_side([metadata.settings(run) for run in scored]),
            "listed": Markup(json_for_script(data)),
            "packed": _pack(prompts),
            "version": __version__,
        },
    )


def _pack(prompts: Sequence[Sequence[Score | None]]) -> list[Markup]:
    with ThreadPoolExecutor() as pool:  # zlib compresses outside the interpreter's lock
        packed = pool.map(pack, prompts)
        bar = tqdm(packed, "Packing the responses", len(prompts), leave=False, disable=None)
        return list(map(Markup, bar))


def _benchmarks(scored: Sequence[ScoredRun]) -> list[str]:
    return list(dict.fromkeys(name for run in scored for name in run.benchmarks))


def _benchmark_title(benchmark: str, scored: Sequence[ScoredRun]) -> str:
    prompts = max(sum(score.benchmark == benchmark for score in run.scores) for run in scored)
    return f"{label(BENCHMARKS.get(benchmark, benchmark))} ({prompts:,} prompts)"


def _summary(run: ScoredRun) -> list[tuple[str, str, str]]:
    """The run's key figures: title, value and note."""
    rows = {row.benchmark: row for row in run.table if row.kind == "all"}
    main = next((rows[name] for name in run.benchmarks if name != RULER), None)
    metrics = ("overall_score", "length_score", "quality_score") if main else ("length_score",)
    summary = []
    for metric in metrics:
        interval = (main or rows[RULER]).metrics[metric]
        if not math.isnan(interval.mean):
            summary.append((_COLUMNS[metric][0], f"{interval.mean:.1f}", _range(interval, 1)))
    summary.append(("Longest output", f"{run.max_words:,}", "words"))
    asked = [score for score in run.scores if score.judgement]
    if asked:
        judged = sum(score.status == "judged" for score in asked)
        summary.append(("Judged", f"{judged / len(asked):.0%}", f"{judged:,} of {len(asked):,}"))
    return summary


def _score_table(benchmark: str, scored: Sequence[ScoredRun]) -> dict[str, Any]:
    """Columns of the table, and groups of rows, with a line per run in each row."""
    by_run = [
        {(r.kind, r.name): r for r in run.table if r.benchmark == benchmark} for run in scored
    ]
    rows = [row for of_run in by_run for row in of_run.values()]
    columns = [
        metric
        for metric in _COLUMNS
        if any(not math.isnan(row.metrics[metric].mean) for row in rows)
    ]
    is_judged = any(not math.isnan(row.coverage) for row in rows)
    groups: dict[str, list[dict[str, Any]]] = {}
    for kind, name in dict.fromkeys((row.kind, row.name) for row in rows):
        lines = [
            {"run": number, **_line(of_run[kind, name], columns, is_judged=is_judged)}
            for number, of_run in enumerate(by_run)
            if (kind, name) in of_run
        ]
        groups.setdefault(kind, []).append({"name": _row_title(kind, name), "lines": lines})
    for kind in ("language", "type"):
        # a single language or type repeats "all prompts"; the ruler has two prompts of each type
        if len(groups.get(kind, ())) == 1 or (benchmark, kind) == (RULER, "type"):
            groups.pop(kind, None)
    return {
        "title": label(BENCHMARKS.get(benchmark, benchmark)),
        "columns": [_COLUMNS[metric] for metric in columns],
        "is_judged": is_judged,
        "groups": [(_GROUP_TITLES[kind], rows_of_kind) for kind, rows_of_kind in groups.items()],
    }


def _line(row: TableRow, columns: Iterable[str], *, is_judged: bool) -> dict[str, Any]:
    cells = []
    for metric in columns:
        interval, digits = row.metrics[metric], 0 if metric == "output_words" else 1
        mean = "–" if math.isnan(interval.mean) else f"{interval.mean:,.{digits}f}"
        cells.append((mean, _range(interval, digits)))
    coverage = "–" if math.isnan(row.coverage) else f"{row.coverage:.0%}"
    return {"n": f"{row.n:,}", "cells": cells, "coverage": coverage if is_judged else None}


def _row_title(kind: str, name: str) -> str:
    if kind == "all":
        return "All prompts"
    return label({"language": LANGUAGES, "type": TYPES}.get(kind, {}).get(name, name))


def _range(interval: Interval, digits: int) -> str:
    if math.isnan(interval.low):
        return ""
    return f"{interval.low:,.{digits}f}–{interval.high:,.{digits}f}"


def _alpha_cell(alpha: Interval) -> tuple[str, str]:
    if math.isnan(alpha.mean):
        return "all grades are equal", ""
    # not _range, because its dash looks like another minus sign
    limits = "" if math.isnan(alpha.low) else f"{alpha.low:.2f} to {alpha.high:.2f}"
    return f"{alpha.mean:.2f}", limits


def _side_by_side(runs: Sequence[Settings]) -> list[tuple[str, list[str]]]:
    """One row per setting with a value per run; "" if a run lacks it."""
    names = dict.fromkeys(name for settings in runs for name, _ in settings)
    return [
        (label(name), [printable(dict(settings).get(name, ""), None) for settings in runs])
        for name in names
    ]
