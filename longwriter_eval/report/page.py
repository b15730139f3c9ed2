"""The report page: summary, score tables, figures, settings and every response."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from markupsafe import Markup
from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.redact import redact
from longwriter_core.text.printable import printable
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import json_for_script, label, render
from longwriter_eval.published import REPORTED, REPORTED_JUDGE, REPORTED_SOURCE
from longwriter_eval.report import metadata
from longwriter_eval.report.drawing import Figure, themed_svg
from longwriter_eval.report.figures import draw_figures
from longwriter_eval.report.headline import MIN_LENGTH_SCORE, against_first, headline
from longwriter_eval.report.metadata import BENCHMARKS, LONGBENCH_WRITE, ScoredRun, Settings
from longwriter_eval.report.responses import MARK_EVERY, group_by_prompt, listing, pack
from longwriter_eval.report.tables import difference_tables, score_table_of, summary
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score
from longwriter_eval.stats.agreement import Agreement, agreement
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.score_table import TableRow
from longwriter_eval.version import __version__


def write_report(
    runs: Sequence[Run],
    path: Path,
    *,
    figure_files: Path | None = None,
    judged_before: Sequence[Run] = (),
    scores: Sequence[tuple[Sequence[Score], Sequence[TableRow]]] | None = None,
    sentences: Sequence[str] = (),
) -> list[Path]:
    """Write the page to `path`, and its figures as SVG and PNG into the folder `figure_files`.

    `judged_before` are older results for the same responses, for example by another judge: they
    are used only to report the agreement between verdicts. `scores` are the scores and the score
    table of every run, if they are known already. `sentences` are shown below those that say what
    the runs did.

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
    html = _render_page(scored, figures, agreements, sentences)
    write_atomically(path, html.encode("utf-8", "backslashreplace"))
    written = [path]
    if figure_files:
        for figure in figures:
            for extension, data in (("svg", figure.svg.encode()), ("png", figure.png())):
                written.append(figure_files / f"{figure.name}.{extension}")
                write_atomically(written[-1], data)
    return written


def _render_page(
    scored: Sequence[ScoredRun],
    figures: Sequence[Figure],
    agreements: Sequence[Agreement],
    sentences: Sequence[str],
) -> str:
    prompts = group_by_prompt(scored)
    names = [run.name for run in scored]
    versus = against_first(scored)
    drawn = [(figure, Markup(themed_svg(figure, n))) for n, figure in enumerate(figures)]
    key = next((n for n, figure in enumerate(figures) if figure.name == "ruler"), 0)
    is_paper = any(LONGBENCH_WRITE in run.benchmarks for run in scored)
    data = {
        "runs": names,
        "dimensions": list(DIMENSIONS.values()),
        "markEvery": MARK_EVERY,
        "prompts": [listing(scores) for scores in prompts],
    }
    return render(
        "report.html",
        ("elements.js", "report.js"),
        {
            "title": " and ".join(dict.fromkeys(metadata.model_name(s.run) for s in scored)),
            "names": names,
            "benchmarks": [_benchmark_title(name, scored) for name in _benchmarks(scored)],
            "warnings": [printable(text, None) for text in metadata.warnings(scored)],
            "headline": [*headline(scored, versus), *sentences],
            "summary": summary(scored[0]) if len(scored) == 1 else None,
            "differences": difference_tables(scored, versus) if versus else [],
            "length_score_held": MIN_LENGTH_SCORE,
            "reported": REPORTED if is_paper else (),
            "reported_judge": REPORTED_JUDGE,
            "reported_source": REPORTED_SOURCE,
            "tables": [score_table_of(benchmark, scored) for benchmark in _benchmarks(scored)],
            "key_figure": drawn[key],
            "figures": drawn[:key] + drawn[key + 1 :],
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
