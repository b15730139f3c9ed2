"""The page of the leaderboard: rankings with tables by group of prompts, and filters."""

from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_eval.leaderboard.entries import Entry
from longwriter_eval.leaderboard.rankings import TITLES, Ranking, in_order, scope_title
from longwriter_eval.leaderboard.ranks import KINDS, Scope
from longwriter_eval.pages import label, render
from longwriter_eval.published import REPORTED, REPORTED_JUDGE, REPORTED_SOURCE
from longwriter_eval.stats.thresholds import unseen_note
from longwriter_eval.submission import judges
from longwriter_eval.submission.names import marked_scripts
from longwriter_eval.submission.rules import VERSIONS
from longwriter_eval.version import __version__


def board_page(
    ranked: Sequence[Ranking],
    bridged: Sequence[Sequence[Mapping[str, Any]]],
    invalid: Sequence[Entry],
    examples: Sequence[Entry],
) -> str:
    """The page as HTML. `bridged` has a list of converted scores per ranking."""
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
                    "title": TITLES[ranking.benchmark],
                    "key": ranking.key,
                    "states_cost": any(
                        entry["stated"][name] is not None
                        for entry in ranking.entries
                        for name in ("words_per_usd", "words_per_minute")
                    ),
                    "judge": ranking.judge,
                    "judges": _judges_of(ranking),
                    "judge_scripts": marked_scripts(ranking.judge),
                    "prompt": ranking.prompt,
                    "prompt_sha256": ranking.prompt_sha256,
                    "version": f"{ranking.task_version:g}",
                    "tables": [
                        (
                            scope.name,
                            scope_title(scope.kind, scope.name),
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
                scope.name: scope_title(scope.kind, scope.name)
                for kind in KINDS
                for ranking in ranked
                for scope in ranking.scopes
                if scope.kind == kind
            }
            or {"all": scope_title("all", "all")},
            "sizes": _SIZES,
            "licences": sorted(
                {
                    licence["value"]
                    for ranking in ranked
                    for entry in ranking.entries
                    if (licence := entry["model"]["licence"])
                }
            ),
            "reported": REPORTED,
            "reported_judge": REPORTED_JUDGE,
            "reported_source": REPORTED_SOURCE,
            "invalid": invalid,
            "examples": examples,
            "benchmarks": [TITLES[name] for name in VERSIONS],
        },
    )


# Size class -> its title; the number of parameters is below the class's limit.
_SIZES = {
    "small": "under 5B", "medium": "5B to 15B", "large": "15B to 80B", "huge": "80B or more",
    "none": "not stated",
}  # fmt: skip
_LIMITS = {"small": 5e9, "medium": 15e9, "large": 80e9}


def size_class(parameters: int | None) -> str:
    """The class of sizes that the page filters by."""
    if parameters is None:
        return "none"
    return next((name for name, limit in _LIMITS.items() if parameters < limit), "huge")


def short_size(parameters: int) -> str:
    """A number of parameters such as "9.4B"."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)


def longest(entry: Mapping[str, Any], scope: Scope) -> int | None:
    """The words of the longest response in a scope; None without one."""
    words = (
        row["output_words"]
        for row in entry["prompt_scores"].values()
        if scope.kind == "all" or row[scope.kind] == scope.name
    )
    return max(words, default=None)


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
        size, licence = entry["model"]["parameters"], entry["model"]["licence"]
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
                "id": entry["sha256"][:16],
                "size": size and short_size(size["value"]),
                "size_class": size_class(size["value"] if size else None),
                "licence": licence and licence["value"],
                "longest": longest(entry, scope),
                "words_per_usd": entry["stated"]["words_per_usd"],
                "words_per_minute": entry["stated"]["words_per_minute"],
                "coverage": row["coverage"],
                "metrics": row["metrics"],
            }
        )
    return lines
