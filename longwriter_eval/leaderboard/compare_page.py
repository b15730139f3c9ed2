"""The page that compares models: two head to head, one prompt across all, and a model's history.

The tests of all pairs are computed here, by the function of `longwriter compare`; the page's script
only shows them.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from longwriter_eval.leaderboard.board_page import longest
from longwriter_eval.leaderboard.rankings import TITLES, Ranking, scope_title
from longwriter_eval.leaderboard.ranks import Scope, main_score
from longwriter_eval.pages import json_for_script, label, render
from longwriter_eval.version import __version__

# p-values in units of 0.0001, rounded down; so a value below 500 is significant at 5%.
_UNITS, _UNTESTED = 10_000, 65_535


def compare_page(ranked: Sequence[Ranking]) -> str:
    """The page as HTML."""
    return render(
        "compare.html",
        ("compare.js",),
        {
            "title": "Compare models",
            "version": __version__,
            "data": json_for_script([_ranking(ranking) for ranking in ranked]),
            "rankings": [(ranking.key, _title(ranking)) for ranking in ranked],
        },
    )


def _title(ranking: Ranking) -> str:
    by = f", judged by {ranking.judge}" if ranking.prompt else ""
    return label(f"{TITLES[ranking.benchmark]} {ranking.task_version:g}{by}")


def _ranking(ranking: Ranking) -> dict[str, Any]:
    metric = main_score(ranking.benchmark)
    prompts = ranking.entries[0]["prompt_scores"]
    return {
        "key": ranking.key,
        "title": _title(ranking),
        "metric": metric,
        "entries": [
            _entry(entry, rank, ranking.scopes[0], list(prompts))
            for entry, rank in zip(ranking.entries, ranking.scopes[0].ranks(), strict=True)
        ],
        "prompts": [
            {"id": id, **{name: row[name] for name in ("language", "bucket", "type")}}
            for id, row in prompts.items()
        ],
        "scopes": [_scope(scope, ranking, metric) for scope in ranking.scopes],
    }


def _entry(
    entry: Mapping[str, Any], rank: Any, all_prompts: Scope, prompts: Sequence[str]
) -> dict[str, Any]:
    """What the page says of an entry. `values` has S_l, S_q (null without a verdict) and words."""
    rows = [entry["prompt_scores"].get(id) for id in prompts]
    return {
        "id": entry["sha256"][:16],
        "model": label(entry["model"]["id"]["value"]),
        "submitter": label(entry["submitter"] or ""),
        "date": entry["date"][:10],
        "report": entry["report"],
        "rank": [rank.best, rank.worst] if rank else None,
        "longest": longest(entry, all_prompts),
        "scores": {
            name: [interval[part] for part in ("mean", "low", "high")]
            for name, interval in entry["scores"]["all"]["metrics"].items()
            if name in ("overall_score", "length_score", "quality_score", "output_words")
        },
        "values": [
            [_tenths(row["length_score"]), _tenths(row["quality_score"]), row["output_words"]]
            if row
            else None
            for row in rows
        ],
    }


def _tenths(score: float | None) -> int | None:
    return None if score is None else round(10 * score)


def _scope(scope: Scope, ranking: Ranking, metric: str) -> dict[str, Any]:
    """A group of prompts: the score of each entry, and the corrected p-value of each pair."""
    rows = [entry["scores"].get(scope.name) for entry in ranking.entries]
    upper = np.triu_indices(len(rows), 1)
    p = scope.p_corrected[upper]
    codes = np.where(np.isnan(p), _UNTESTED, np.floor(np.nan_to_num(p) * _UNITS + 1e-6))
    means = [row["metrics"][metric]["mean"] if row else None for row in rows]
    return {
        "name": scope.name,
        "kind": scope.kind,
        "title": scope_title(scope.kind, scope.name),
        "n": max((row["n"] for row in rows if row), default=0),
        "means": [None if mean is None or math.isnan(mean) else round(mean, 6) for mean in means],
        "p": base64.b64encode(codes.astype("<u2").tobytes()).decode(),
    }
