"""leaderboard.json and the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.files import write_atomically
from longwriter_eval import __version__
from longwriter_eval.leaderboard.entries import Entry, examine, find
from longwriter_eval.leaderboard.ranking import SCOPES, Ranking, in_order, rankings, ranks
from longwriter_eval.pages import label, render
from longwriter_eval.submission.verification import VERSIONS

_TITLES = {"longbench_write": "LongBench-Write", "longwrite_demo": "Demo prompts"}

# Scores that the paper reports and that we could confirm there; None is not reported.
REPORTED_JUDGE, REPORTED_SOURCE = "gpt-4o-2024-05-13", "arXiv 2408.07055"
REPORTED = (
    {"model": "LongWriter-9B-DPO", "overall_score": 84.0},
    {"model": "Claude 3.5 Sonnet", "overall_score": 80.7},
    {
        "model": "Llama-3.1-8B-Instruct",
        "overall_score": 60.3,
        "length_score": 50.0,
        "quality_score": 70.6,
    },
    {
        "model": "GLM-4-9B, the paper's SFT without LongWriter-6k",
        "length_score": 48.1,
        "quality_score": 77.1,
    },
)


@dataclass(frozen=True)
class Built:
    """What a leaderboard came to."""

    page: Path
    data: Path
    verified: int
    rankings: int
    invalid: Sequence[Entry]


def build(folder: Path, site: Path) -> Built:
    """Verify the submissions below `folder`, and write the site.

    Raises InputError where there are none, and OSError.
    """
    entries = examine(folder, find(folder), site)
    valid = [entry for entry in entries if not entry["reasons"]]
    invalid = [entry for entry in entries if entry["reasons"]]
    found = rankings(valid)
    data = json.dumps(_data(found, invalid), indent=1, ensure_ascii=False, allow_nan=False)
    built = Built(site / "index.html", site / "leaderboard.json", len(valid), len(found), invalid)
    write_atomically(built.data, data.encode())
    write_atomically(built.page, _page(found, invalid).encode())
    return built


def _data(found: Sequence[Ranking], invalid: Sequence[Entry]) -> dict[str, Any]:
    return {
        "schema": "longwriter-leaderboard/1",
        "longwriter": __version__,
        "rankings": [{**vars(ranking), "entries": _public_entries(ranking)} for ranking in found],
        "reported_not_verified": [
            {"source": REPORTED_SOURCE, "judge": REPORTED_JUDGE, **each} for each in REPORTED
        ],
        "invalid": [{"file": each["file"], "reasons": each["reasons"]} for each in invalid],
    }


def _public_entries(ranking: Ranking) -> list[dict[str, Any]]:
    """The entries as leaderboard.json shows them, each with its rank in every scope."""
    of_scope = {scope: ranks(ranking.entries, scope) for scope in SCOPES}
    private = ("reasons", "verified_by")
    return [
        {name: value for name, value in entry.items() if name not in private}
        | {
            "rank": {
                scope: asdict(rank) if (rank := found[entry["file"]]) else None
                for scope, found in of_scope.items()
            }
        }
        for entry in ranking.entries
    ]


def _page(found: Sequence[Ranking], invalid: Sequence[Entry]) -> str:
    return render(
        "leaderboard.html",
        "leaderboard.js",
        {
            "title": "Leaderboard",
            "label": label,
            "version": __version__,
            "verified": sum(len(ranking.entries) for ranking in found),
            "rankings": [
                {
                    "title": _TITLES[ranking.benchmark],
                    "judge": ranking.judge,
                    "prompt": ranking.prompt,
                    "prompt_sha256": ranking.prompt_sha256,
                    "version": f"{ranking.task_version:g}",
                    "tables": [(s, SCOPES[s], _lines(ranking, s)) for s in SCOPES],
                }
                for ranking in found
            ],
            "scopes": SCOPES,
            "reported": REPORTED,
            "reported_judge": REPORTED_JUDGE,
            "reported_source": REPORTED_SOURCE,
            "invalid": invalid,
            "benchmarks": [_TITLES[name] for name in VERSIONS],
        },
    )


def _lines(ranking: Ranking, scope: str) -> list[dict[str, Any]]:
    """The rows of a table, in order."""
    of_file = ranks(ranking.entries, scope)
    lines = []
    for entry in in_order(ranking.entries, scope):
        row: Mapping[str, Any] = entry["scores"].get(scope) or {"metrics": {}, "coverage": None}
        lines.append(
            {
                "rank": of_file[entry["file"]],
                "model": entry["model"]["id"]["value"],
                "is_stated": entry["model"]["id"]["source"] == "submitter",
                "submitter": entry["submitter"],
                "date": entry["date"][:10],
                "report": entry["report"],
                "coverage": row["coverage"],
                "metrics": row["metrics"],
            }
        )
    return lines
