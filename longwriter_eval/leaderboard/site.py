"""The leaderboard: rankings of comparable submissions, leaderboard.json and the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_eval.bridge import Bridge, JudgeIdentity
from longwriter_eval.judge.settings import protocol_text
from longwriter_eval.leaderboard.entries import Entry, examine, find
from longwriter_eval.leaderboard.exports import badge, csv_table
from longwriter_eval.leaderboard.ranks import KINDS, Rank, Scope, main_score, scopes
from longwriter_eval.pages import label, render
from longwriter_eval.published import REPORTED, REPORTED_JUDGE, REPORTED_SOURCE
from longwriter_eval.report.metadata import TYPES
from longwriter_eval.stats.thresholds import unseen_note
from longwriter_eval.submission import judges
from longwriter_eval.submission.names import marked_scripts
from longwriter_eval.submission.rules import VERSIONS
from longwriter_eval.version import __version__

_TITLES = {
    "longbench_write": "LongBench-Write",
    "longwrite_demo": "Demo prompts",
    "longwrite_ruler": "LongWrite-Ruler",
}

LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True)
class Ranking:
    """Comparable submissions (same benchmark, task version, judge and judge prompt), by S̄.

    `judge` is its name, or those of a panel's judges, with what was sent unless a profile says so;
    "no judge" on the ruler.
    """

    benchmark: str
    task_version: float
    judge: str
    prompt: str
    prompt_sha256: str
    entries: Sequence[Mapping[str, Any]]
    scopes: Sequence[Scope]

    def ranks(self) -> dict[str, dict[str, Rank | None]]:
        """Scope -> file of an entry -> rank."""
        files = [entry["file"] for entry in self.entries]
        return {scope.name: dict(zip(files, scope.ranks(), strict=True)) for scope in self.scopes}


def rankings(entries: Sequence[Mapping[str, Any]]) -> list[Ranking]:
    """One ranking per benchmark, task version and identity of the judge; the largest first."""
    groups: dict[tuple[str, float, tuple[str, ...]], list[Mapping[str, Any]]] = {}
    for entry in entries:
        key = (entry["benchmark"], entry["task_version"], judges.identity(entry["judge"]))
        groups.setdefault(key, []).append(entry)
    ordered = sorted(groups, key=lambda key: (key[0], -len(groups[key]), key))
    ranked = []
    for key in ordered:
        judge = groups[key][0]["judge"]
        prompt, sha256 = (judge["prompt"], judge["prompt_sha256"]) if judge else ("", "")
        of_judge = in_order(groups[key], "all")
        names = judges.shown(judge), prompt, sha256
        ranked.append(Ranking(*key[:2], *names, of_judge, scopes(of_judge)))
    return ranked


def _scope_title(kind: str, name: str) -> str:
    if kind == "all":
        return "All prompts"
    if kind == "bucket":
        return f"{name} words"
    return LANGUAGE_NAMES.get(name, name) if kind == "language" else TYPES.get(name, name)


def in_order(entries: Sequence[Mapping[str, Any]], scope: str) -> list[Mapping[str, Any]]:
    """`entries` by their main score in a scope, best first; those without it last."""

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        row = entry["scores"].get(scope)
        mean = row["metrics"][main_score(entry["benchmark"])]["mean"] if row else None
        return mean is None, -(mean or 0), entry["file"]

    return sorted(entries, key=key)


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
            image = badge(_TITLES[ranking.benchmark], entry)
            write_atomically((site / entry["report"]).with_name("badge.svg"), image.encode())
    write_atomically(built.page, _page(ranked, bridged, invalid, examples).encode())
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


def _page(
    ranked: Sequence[Ranking],
    bridged: Sequence[Sequence[Mapping[str, Any]]],
    invalid: Sequence[Entry],
    examples: Sequence[Entry],
) -> str:
    return render(
        "leaderboard.html",
        ("leaderboard.js",),
        {
            "title": "Leaderboard",
            "label": label,
            "version": __version__,
            "verified": sum(len(ranking.entries) for ranking in ranked),
            "rankings": [
                {
                    "title": _TITLES[ranking.benchmark],
                    "judge": ranking.judge,
                    "judges": _judges_of(ranking),
                    "judge_scripts": marked_scripts(ranking.judge),
                    "prompt": ranking.prompt,
                    "prompt_sha256": ranking.prompt_sha256,
                    "version": f"{ranking.task_version:g}",
                    "tables": [
                        (
                            scope.name,
                            _scope_title(scope.kind, scope.name),
                            _caveat(ranking, scope.name),
                            _lines(ranking, scope),
                        )
                        for scope in ranking.scopes
                    ],
                    "bridged": others,
                }
                for ranking, others in zip(ranked, bridged, strict=True)
            ],
            "scopes": {
                scope.name: _scope_title(scope.kind, scope.name)
                for kind in KINDS
                for ranking in ranked
                for scope in ranking.scopes
                if scope.kind == kind
            }
            or {"all": _scope_title("all", "all")},
            "reported": REPORTED,
            "reported_judge": REPORTED_JUDGE,
            "reported_source": REPORTED_SOURCE,
            "invalid": invalid,
            "examples": examples,
            "benchmarks": [_TITLES[name] for name in VERSIONS],
        },
    )


def stated_by(entry: Mapping[str, Any]) -> str:
    """Who vouches for a model's name; "" if the run itself loaded or called that model.

    A private endpoint can serve any model under any name.
    """
    if entry["model"]["id"]["source"] == "submitter":
        return "the submitter"
    return "a private endpoint" if entry["backend"]["endpoint"] == "private" else ""


def _judges_of(ranking: Ranking) -> list[dict[str, Any]]:
    """Each judge of a ranking: its model, whether a profile asks it so, and where it was asked."""
    return [
        {
            "model": member["returned"],
            "profile": judges.profile_name(member),
            "endpoints": sorted(
                {
                    judges.endpoint(one)
                    for entry in ranking.entries
                    for one in judges.members(entry["judge"])
                    if one["returned"] == member["returned"]
                }
            ),
        }
        for member in judges.members(ranking.entries[0]["judge"])
    ]


def _caveat(ranking: Ranking, scope: str) -> str:
    """What a table of few prompts cannot show; "" for one of many."""
    prompts = max(
        entry["scores"][scope]["n"] for entry in ranking.entries if scope in entry["scores"]
    )
    return unseen_note(prompts)


def _lines(ranking: Ranking, scope: Scope) -> list[dict[str, Any]]:
    """The rows of a table, in order."""
    files = (entry["file"] for entry in ranking.entries)
    of_file = dict(zip(files, scope.ranks(), strict=True))
    lines = []
    for entry in in_order(ranking.entries, scope.name):
        row: Mapping[str, Any] = entry["scores"].get(scope.name) or {
            "metrics": {},
            "coverage": None,
        }
        lines.append(
            {
                "rank": of_file[entry["file"]],
                "model": entry["model"]["id"]["value"],
                "stated_by": stated_by(entry),
                "stated_judges": [
                    judge["returned"]
                    for judge in judges.members(entry["judge"])
                    if judges.is_stated(judge)
                ],
                "scripts": marked_scripts(
                    f"{entry['model']['id']['value']} {entry['submitter'] or ''}"
                ),
                "submitter": entry["submitter"],
                "rejudged": entry["rejudged"],
                "date": entry["date"][:10],
                "badge": entry["report"].replace("report.html", "badge.svg"),
                "report": entry["report"],
                "coverage": row["coverage"],
                "metrics": row["metrics"],
            }
        )
    return lines
