"""`longwriter report`: one page that shows what a run wrote and how it was scored.

    write_report([load_run(Path("runs/mine"))], Path("report.html"))

The page stands alone: it asks for nothing, runs only its own script, and holds every response.
Several runs stand side by side in it, prompt by prompt.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.redact import redact
from longwriter_eval import __version__
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import json_for_script, label, plain, render
from longwriter_eval.report import metadata as facts
from longwriter_eval.report import texts
from longwriter_eval.report.canvas import Figure, themed
from longwriter_eval.report.drawing import draw
from longwriter_eval.report.metadata import ScoredRun
from longwriter_eval.report.prompts import by_prompt, listed
from longwriter_eval.report.tables import benchmarks, summary, tables
from longwriter_eval.runs import Run
from longwriter_eval.stats.agreement import Agreement, agreement
from longwriter_eval.stats.inference import Interval


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
    drawn: Sequence[Figure],
    agreements: Sequence[Agreement] = (),
) -> str:
    """The page as HTML."""
    prompts = by_prompt(scored)
    names = [each.name for each in scored]
    data = {
        "runs": names,
        "dimensions": list(DIMENSIONS.values()),
        "markEvery": texts.MARK_EVERY,
        "prompts": [listed(of_runs) for of_runs in prompts],
    }
    return render(
        "report.html",
        "report.js",
        {
            "title": " and ".join(dict.fromkeys(facts.model_name(s.run) for s in scored)),
            "names": names,
            "benchmarks": benchmarks(scored),
            "warnings": [plain(warning) for warning in facts.warnings(scored)],
            "summaries": [summary(each) for each in scored],
            "tables": tables(scored),
            "figures": [(f, Markup(themed(f, n))) for n, f in enumerate(drawn)],
            "judging": _beside([facts.judging(each) for each in scored]),
            "agreements": [label(redact(each.raters)) for each in agreements],
            "alphas": [
                (name, [_alpha(each.alphas[metric]) for each in agreements])
                for metric, name in DIMENSIONS.items()
            ],
            "settings": _beside([facts.settings(each) for each in scored]),
            "listed": Markup(json_for_script(data)),
            "packed": [
                Markup(texts.pack(of_runs))
                for of_runs in tqdm(prompts, "Packing the responses", leave=False, disable=None)
            ],
            "version": __version__,
        },
    )


def _alpha(number: Interval) -> tuple[str, str]:
    if math.isnan(number.mean):
        return "all grades are equal", ""
    limits = "" if math.isnan(number.low) else f"{number.low:.2f} to {number.high:.2f}"
    return f"{number.mean:.2f}", limits  # a dash would read as one more minus


def _beside(of_runs: Sequence[facts.Facts]) -> list[tuple[str, list[str]]]:
    """Facts by name, with a value per run; "" where a run has none."""
    names = dict.fromkeys(name for of_run in of_runs for name, _ in of_run)
    return [
        (label(name), [plain(dict(of_run).get(name, "")) for of_run in of_runs]) for name in names
    ]
