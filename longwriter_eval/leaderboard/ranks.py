"""Ranks of comparable entries, by the claims of `longwriter compare`. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longwriter_eval.scoring import Score, instruction, is_ruler
from longwriter_eval.stats import claims
from longwriter_eval.stats.estimates import is_covered
from longwriter_eval.stats.thresholds import COMPARISON_ALPHA

KINDS = ("all", "language", "bucket", "type")


@dataclass(frozen=True)
class Rank:
    """The range of ranks of an entry, from `best` to `worst`, counted from 1.

    An entry ranks below all entries whose main score is significantly higher over the same
    prompts, and above all whose main score is significantly lower.
    """

    best: int
    worst: int

    @property
    def is_tie(self) -> bool:
        """Whether the tests leave several ranks open."""
        return self.best < self.worst


@dataclass(frozen=True)
class Scope:
    """A group of prompts with a table of its own, and the tests of its pairs of entries.

    Row and column of `p`, and of `p_corrected`, are numbers of entries; NaN without a test, as for
    an entry with too few verdicts in these prompts, which has no rank.
    """

    kind: str
    name: str
    is_covered: Sequence[bool]
    p: np.ndarray
    p_corrected: np.ndarray
    is_above: np.ndarray  # [a, b]: whether a is claimed to be better than b

    def ranks(self) -> list[Rank | None]:
        """The rank of every entry, in their order."""
        number = sum(self.is_covered)
        above, below = self.is_above.sum(axis=0), self.is_above.sum(axis=1)
        return [
            Rank(int(1 + above[n]), int(number - below[n])) if covered else None
            for n, covered in enumerate(self.is_covered)
        ]


def main_score(benchmark: str) -> str:
    """The metric that ranks the entries of a benchmark: S̄, or S_l on the ruler, without a judge."""
    return "length_score" if benchmark == "longwrite_ruler" else "overall_score"


def prompt_scores(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Prompt id -> its groups and scores, in the order in which `compare` tests prompts.

    `quality_score` is None without a verdict. Prompts with the same `unit` are not independent.
    """
    ordered = sorted(scores, key=lambda score: (score.sample.required, score.sample.id))
    return {
        score.sample.id: {
            "language": score.sample.language,
            "bucket": score.bucket,
            "type": score.sample.type,
            "unit": instruction(score.sample) if is_ruler(score.sample) else "",
            "length_score": score.length_score,
            "quality_score": score.quality_score,
            "output_words": score.words,
        }
        for score in ordered
    }


def scopes(entries: Sequence[Mapping[str, Any]]) -> list[Scope]:
    """Every group of prompts, and which entries are claimed to be better in it.

    All prompts, then each language, bucket of required length, and type. The entries are of one
    benchmark; prompts that not all of them answered are left out.
    """
    first, *others = (entry["prompt_scores"] for entry in entries)
    shared = [id for id in first if all(id in other for other in others)]
    lengths, qualities = (
        np.array(
            [[entry["prompt_scores"][id][name] for entry in entries] for id in shared], dtype=float
        ).reshape(len(shared), len(entries))
        for name in ("length_score", "quality_score")
    )
    if main_score(entries[0]["benchmark"]) == "length_score":
        qualities = lengths
    found: list[Scope] = []
    for kind in KINDS:
        groups: dict[str, list[int]] = {}
        for number, id in enumerate(shared):
            groups.setdefault("all" if kind == "all" else first[id][kind], []).append(number)
        names = list(groups) if kind == "bucket" else sorted(groups)
        parts = [groups[name] for name in names]
        units = [[first[shared[number]]["unit"] for number in part] for part in parts]
        found += _tested(kind, names, [(lengths[part], qualities[part]) for part in parts], units)
    return found


def _tested(
    kind: str,
    names: Sequence[str],
    scores: Sequence[tuple[np.ndarray, np.ndarray]],
    units: Sequence[Sequence[str]],
) -> Iterator[Scope]:
    directed, covered = [], []
    for (length, quality), clusters in zip(scores, units, strict=True):
        low, high = (
            claims.units(bound, clusters) for bound in claims.overall_bounds(length, quality)
        )
        p = claims.pair_p_values(low, high)
        has_scores = np.array([is_covered(column) for column in quality.T])
        p[~has_scores] = p[:, ~has_scores] = np.nan
        directed.append(p)
        covered.append(has_scores)
    if not directed:
        return
    symmetric = [claims.of_pair(p) for p in directed]
    corrected = claims.corrected(kind, symmetric)
    for n, name in enumerate(names):
        is_above = (corrected[n] < COMPARISON_ALPHA) & (directed[n] < directed[n].T)
        yield Scope(kind, name, covered[n].tolist(), symmetric[n], corrected[n], is_above)
