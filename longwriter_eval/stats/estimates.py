"""The contributions of independent units to a mean over documents. Pure.

Every mean, standard error, interval and test of this package goes through `contributions`. It knows
two things that a plain list of numbers does not show: S̄ is the mean of S_l over all responses and
S_q over the judged ones, and the ruler asks each instruction at six lengths, so that its 48
responses are 8 independent units, not 48.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from longwriter_eval.stats.thresholds import MIN_COVERAGE


class DocumentValue(float):
    """A metric's value of one document. NaN if the document has none.

    `cluster` names the unit that the document belongs to; documents of different units are
    independent. `parts` are S_l and S_q where the value is S̄, and S_q may be NaN. `bucket` is the
    required length's. If a prompt was answered several times, `responses` has their values, of
    which this value is the mean, and all of them have the same `prompt`.
    """

    cluster: str
    parts: tuple[float, float] | None
    bucket: str
    prompt: str
    responses: tuple["DocumentValue", ...] = ()

    def __new__(
        cls,
        value: float,
        cluster: str = "",
        parts: tuple[float, float] | None = None,
        bucket: str = "",
        prompt: str = "",
        responses: tuple["DocumentValue", ...] = (),
    ) -> "DocumentValue":
        """A document without `cluster` is its own unit."""
        self = super().__new__(cls, value)
        self.cluster, self.parts, self.bucket = cluster, parts, bucket
        self.prompt, self.responses = prompt, responses
        return self

    @classmethod
    def of_responses(cls, values: Sequence["DocumentValue"]) -> "DocumentValue":
        """The value of a prompt that was answered several times: the mean of `values`."""
        mean = statistics.fmean(known(values)) if known(values) else math.nan
        return cls(mean, values[0].cluster, bucket=values[0].bucket, responses=tuple(values))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.cluster, self.parts, self.bucket, self.prompt, self.responses)
        return type(self), (float(self), *fields)


def each_response(values: Sequence[float]) -> list[float]:
    """The values of all responses, where a prompt may have been answered several times."""
    return [
        response for value in values for response in getattr(value, "responses", ()) or (value,)
    ]


def spread(values: Sequence[float]) -> float:
    """The mean standard deviation between the responses to a prompt; NaN if none has two values.

    `values` has one value per response.
    """
    by_prompt: dict[str, list[float]] = {}
    for value in known(values):
        if prompt := getattr(value, "prompt", ""):
            by_prompt.setdefault(prompt, []).append(value)
    deviations = [statistics.stdev(own) for own in by_prompt.values() if len(own) > 1]
    return statistics.fmean(deviations) if deviations else math.nan


def known(values: Sequence[float]) -> list[float]:
    """The values that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def is_covered(values: Sequence[float]) -> bool:
    """Whether enough documents have a value for a mean to describe all of them."""
    return bool(number := len(known(values))) and number >= MIN_COVERAGE * len(values)


def contributions(values: Sequence[float]) -> list[float]:
    """One number per independent unit. Their mean is the estimate, their spread its uncertainty.

    `values` has one value per document; NaN is left out. Where S_q is missing for some documents,
    the estimate of S̄ is (mean S_l + mean S_q) / 2, each over the documents that have it; a
    document's contribution is the linear part of that estimate (its influence), as in Taylor
    linearisation for survey statistics. Documents of one cluster add up to one contribution.
    """
    documents = _overall(values) if any(_parts(value) for value in values) else _plain(values)
    clusters: dict[str, list[float]] = {}
    for number, (value, cluster) in enumerate(documents):
        clusters.setdefault(cluster or f"document {number}", []).append(value)
    if len(clusters) == len(documents):
        return [value for value, _ in documents]
    mean = statistics.fmean(value for value, _ in documents)
    weight = len(clusters) / len(documents)
    return [mean + weight * sum(x - mean for x in cluster) for cluster in clusters.values()]


def _parts(value: float) -> tuple[float, float] | None:
    return getattr(value, "parts", None)


def _cluster(value: float) -> str:
    return getattr(value, "cluster", "")


def _plain(values: Sequence[float]) -> list[tuple[float, str]]:
    return [(float(value), _cluster(value)) for value in known(values)]


def _overall(values: Sequence[float]) -> list[tuple[float, str]]:
    written = [(value, parts) for value in values if (parts := _parts(value))]
    judged = known([quality for _, (_, quality) in written])
    if not judged:
        return []
    mean, weight = statistics.fmean(judged), len(written) / len(judged)
    return [
        (
            (length + (mean if math.isnan(quality) else mean + weight * (quality - mean))) / 2,
            _cluster(value),
        )
        for value, (length, quality) in written
    ]
