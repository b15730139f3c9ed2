"""The leaderboard as files for others: a CSV table, and a badge for each model card."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_core.text.printable import printable
from longwriter_eval.submission import judges

METRICS = ("overall_score", "length_score", "quality_score", "output_words", "max_output_words")
_UNKNOWN = dict.fromkeys(("mean", "low", "high"))

STATED = ("cost_usd", "minutes", "words_per_usd", "words_per_minute")

# Characters at the start of a cell that make a spreadsheet run it as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_CHARACTER = 6.6  # mean width in pixels of a character of the badge's font, at 11 pixels
_MAX_MODEL = 40


def csv_table(rankings: Sequence[Any]) -> str:
    """One line per submission and group of prompts, with the mean and interval of each score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "benchmark", "task_version", "judge", "judge_prompt_sha256", "file", "model",
            "model_source", "parameters", "parameters_source", "licence", "submitter", "date",
            "cost_usd", "minutes", "words_per_usd", "words_per_minute",
            "rejudged", "rejudged_consistent", "prompts", "group", "n", "judged", "rank_best",
            "rank_worst",
            *(f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")),
        ]
    )  # fmt: skip
    for ranking in rankings:
        ranks = ranking.ranks()
        for entry in ranking.entries:
            for group, row in entry["scores"].items():
                rank = ranks.get(group, {}).get(entry["file"])
                model, stated = entry["model"]["id"], entry["stated"]
                rejudged = entry["rejudged"]
                size, licence = entry["model"]["parameters"], entry["model"]["licence"]
                writer.writerow(
                    [
                        ranking.benchmark, f"{ranking.task_version:g}", _cell(ranking.judge),
                        ranking.prompt_sha256, _cell(entry["file"]), _cell(model["value"]),
                        model["source"], size["value"] if size else "",
                        size["source"] if size else "", licence["value"] if licence else "",
                        _cell(entry["submitter"] or ""), entry["date"],
                        *(_number(stated[name]) for name in STATED),
                        rejudged["date"] if rejudged else "",
                        str(rejudged["consistent"]).lower() if rejudged else "",
                        row["kind"], _cell(group), row["n"], _number(row["coverage"]),
                        *((rank.best, rank.worst) if rank else ("", "")),
                        *(
                            _number(row["metrics"].get(metric, _UNKNOWN)[part])
                            for metric in METRICS
                            for part in ("mean", "low", "high")
                        ),
                    ]
                )  # fmt: skip
    return file.getvalue()


def stated_data(manifest: Mapping[str, Any], words: int) -> dict[str, float | None]:
    """What writing took, as stated: cost and time, and the words for them."""
    cost, minutes = manifest["stated"]["cost_usd"], manifest["stated"]["minutes"]
    per = (words / cost if cost else None, words / minutes if minutes else None)
    return dict(zip(STATED, (cost, minutes, *per), strict=True))


def badge(title: str, entry: Mapping[str, Any]) -> str:
    """An SVG badge: the benchmark and S̄ of a verified submission, with its judge as tooltip.

    The ruler's shows the longest response.
    """
    metrics = entry["scores"]["all"]["metrics"]
    mean = metrics.get("overall_score", _UNKNOWN)["mean"]
    left, right = title, "no score" if mean is None else f"S̄ {mean:.1f}"
    if entry["judge"] is None:
        right = f"up to {metrics['max_output_words']['mean']:,.0f} words"
    widths = [round(_CHARACTER * len(text)) + 12 for text in (left, right)]
    model = printable(entry["model"]["id"]["value"], _MAX_MODEL)
    judge = printable(judges.shown(entry["judge"]), _MAX_MODEL)
    by = f", judged by {judge}" if entry["judge"] else ""
    label = html.escape(f"{model}: {left} {right}{by}, recomputed from its evidence")
    text = "".join(
        f'<text x="{x}" y="14">{html.escape(part)}</text>'
        for x, part in ((6, left), (widths[0] + 6, right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sum(widths)}" height="20" role="img" '
        f'aria-label="{label}"><title>{label}</title>'
        f'<rect width="{widths[0]}" height="20" fill="#3c4146"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="#0a5cab"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{text}</g>'
        "</svg>\n"
    )


def _cell(text: str) -> str:
    """Text that a spreadsheet shows as it is."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")
