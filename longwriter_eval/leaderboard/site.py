"""The files of the site: leaderboard.json and .csv, badges, and the pages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_eval.bridge import Bridge, JudgeIdentity
from longwriter_eval.judge.settings import protocol_text
from longwriter_eval.leaderboard.board_page import board_page
from longwriter_eval.leaderboard.compare_page import compare_page
from longwriter_eval.leaderboard.entries import Entry, examine, find
from longwriter_eval.leaderboard.exports import badge, csv_table
from longwriter_eval.leaderboard.rankings import TITLES, Ranking, rankings
from longwriter_eval.published import REPORTED, REPORTED_JUDGE, REPORTED_SOURCE
from longwriter_eval.submission import judges
from longwriter_eval.version import __version__


@dataclass(frozen=True)
class BuildResult:
    """The files of a leaderboard and what is in them."""

    page: Path
    data: Path
    verified: int
    rankings: int
    invalid: Sequence[Entry]


def build(folder: Path, site: Path, bridges: Sequence[Bridge] = ()) -> BuildResult:
    """Verify the submissions below `folder`, and write the site.

    Below each ranking stand the scores of other judges that `bridges` link to its judge.

    Raises InputError if there are no submissions, and OSError.
    """
    entries = examine(folder, find(folder), site)
    verified = [entry for entry in entries if not entry["reasons"]]
    valid = [entry for entry in verified if not entry["example"]]
    examples = [entry for entry in verified if entry["example"]]
    invalid = [entry for entry in entries if entry["reasons"]]
    ranked = rankings(valid)
    bridged = [bridged_entries(ranking, ranked, bridges) for ranking in ranked]
    found = _data(ranked, bridged, invalid)
    found["examples"] = [{"file": e["file"], "report": e["report"]} for e in examples]
    data = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    built = BuildResult(
        site / "index.html", site / "leaderboard.json", len(valid), len(ranked), invalid
    )
    write_atomically(built.data, data.encode())
    # escapes stand for characters that no file can hold
    write_atomically(
        site / "leaderboard.csv", csv_table(ranked).encode("utf-8", "backslashreplace")
    )
    for ranking in ranked:
        for entry in ranking.entries:
            image = badge(TITLES[ranking.benchmark], entry)
            write_atomically((site / entry["report"]).with_name("badge.svg"), image.encode())
    write_atomically(site / "compare.html", compare_page(ranked).encode())
    write_atomically(built.page, board_page(ranked, bridged, invalid, examples).encode())
    return built


def bridged_entries(
    ranking: Ranking, ranked: Sequence[Ranking], bridges: Sequence[Bridge]
) -> list[dict[str, Any]]:
    """Entries of other rankings on the scale of `ranking`'s judge: conversions, without a rank.

    `bridged` is None, with a `note`, where the link does not reach the score.
    """
    rows = []
    for bridge in bridges:
        for other in ranked:
            is_linked = (
                (other.benchmark, other.task_version) == (ranking.benchmark, ranking.task_version)
                and _is_by(other, bridge.source)
                and _is_by(ranking, bridge.target)
            )
            for entry in other.entries if is_linked else ():
                row = entry["scores"]["all"]["metrics"]
                score, length = row["quality_score"]["mean"], row["length_score"]["mean"]
                if score is None:
                    continue
                shown = {
                    "file": entry["file"],
                    "model": entry["model"]["id"]["value"],
                    "report": entry["report"],
                    "judge": other.judge,
                    "quality_score": score,
                    "bridged": None,
                    "note": None,
                }
                try:
                    link = bridge.link.at(score)
                    shown["bridged"] = {
                        "quality_score": {"mean": link.mean, "low": link.low, "high": link.high},
                        "overall_score": (length + link.mean) / 2,
                    }
                except InputError:
                    shown["note"] = "outside the range on which the link was fitted"
                rows.append(shown)
    return rows


def _is_by(ranking: Ranking, judge: JudgeIdentity) -> bool:
    """Whether a link's judge is the ranking's: same model, request and prompt."""
    block = ranking.entries[0]["judge"]
    if block is None or judge.prompt_sha256 != ranking.prompt_sha256:
        return False
    if judge.protocol != protocol_text(judges.record(block)):
        return False
    if len(block["judges"]) > 1:  # the protocol of a panel names its models
        return True
    names = ("requested", "returned")
    return judge.model in {e["judge"]["judges"][0][name] for e in ranking.entries for name in names}


def _data(
    ranked: Sequence[Ranking],
    bridged: Sequence[Sequence[Mapping[str, Any]]],
    invalid: Sequence[Entry],
) -> dict[str, Any]:
    return {
        "schema": "longwriter-leaderboard/1",
        "longwriter": __version__,
        "rankings": [
            {
                "key": ranking.key,
                "benchmark": ranking.benchmark,
                "task_version": ranking.task_version,
                "judge": ranking.judge,
                "prompt": ranking.prompt,
                "prompt_sha256": ranking.prompt_sha256,
                "entries": _public_entries(ranking),
                "bridged": others,
            }
            for ranking, others in zip(ranked, bridged, strict=True)
        ],
        "reported_not_verified": [
            {"source": REPORTED_SOURCE, "judge": REPORTED_JUDGE, **entry} for entry in REPORTED
        ],
        "invalid": [{"file": entry["file"], "reasons": entry["reasons"]} for entry in invalid],
    }


def _public_entries(ranking: Ranking) -> list[dict[str, Any]]:
    """The entries as leaderboard.json shows them, each with its rank in every scope."""
    private = ("reasons", "verified_by", "format", "signatures", "prompt_scores")
    ranks = ranking.ranks()
    return [
        {name: value for name, value in entry.items() if name not in private}
        | {
            "rank": {
                scope: asdict(rank) if (rank := ranked[entry["file"]]) else None
                for scope, ranked in ranks.items()
            }
        }
        for entry in ranking.entries
    ]
