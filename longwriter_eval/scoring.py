"""The scorer, which computes every number about a response.

lm-eval's tasks score with it while they run. `longwriter score`, `report`, `compare` and `verify`
score the samples of a finished run with it, from their responses and verdicts.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from longwriter_core.errors import InputError
from longwriter_core.text.diagnostics import METRICS as DIAGNOSTICS
from longwriter_core.text.diagnostics import Diagnostics, diagnose
from longwriter_core.text.length import bucket, count_words, length_score
from longwriter_core.text.special_tokens import encodable, strip_special_tokens
from longwriter_core.text.thinking import without_thinking
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement
from longwriter_eval.runs import Sample
from longwriter_eval.stats.estimates import DocumentValue, spread
from longwriter_eval.version import TASK_VERSION


@dataclass(frozen=True)
class Score:
    """A response and its scores. `text` is the cleaned response that was counted and judged.

    `bucket` is the paper's ("[0,500)" …), or for the ruler the required length ("10k").
    `judgement` is None if no judge was used.
    """

    sample: Sample
    text: str
    bucket: str
    words: int
    length_score: float
    diagnostics: Diagnostics
    judgement: Judgement | None

    @property
    def benchmark(self) -> str:
        """The benchmark that the prompt belongs to, such as "longbench_write"."""
        return self.sample.id.partition("/")[0]

    @property
    def status(self) -> str:
        """ "judged", "unjudged" if no judge was used, or the reason for a missing verdict."""
        return self.judgement.status if self.judgement else "unjudged"

    @property
    def quality(self) -> Mapping[str, float] | None:
        """The six dimensions (0–100), averaged over repeats; None without a verdict."""
        if not self.judgement or not self.judgement.quality:
            return None
        return {name: self.judgement.quality[name] for name in DIMENSIONS}

    @property
    def quality_score(self) -> float | None:
        """S_q, 0–100; None without a verdict."""
        return self.judgement.quality.get("score") if self.judgement else None

    @property
    def overall_score(self) -> float | None:
        """S̄ of this response, (S_l + S_q) / 2; None without a verdict."""
        quality = self.quality_score
        return None if quality is None else (self.length_score + quality) / 2


def score_samples(samples: Iterable[Sample]) -> list[Score]:
    """Score every prompt once, by prompt id.

    The log is trusted only for the responses, the judge's replies, and whether the backend reached
    its token limit. A prompt that several tasks of a run contain (a bucket and longbench_write_en)
    has a response in each: judged tasks go first, and then the task that comes first by name,
    whatever the scores. Raises InputError for a sample that cannot be scored.
    """
    ranked = sorted(samples, key=lambda sample: (sample.judgement is None, sample.task))
    first: dict[str, Sample] = {}
    for sample in ranked:
        first.setdefault(sample.id, sample)
    return [score_sample(first[id]) for id in sorted(first)]


def value(score: Score, metric: str) -> DocumentValue:
    """A metric of a task, on the scale of lm-eval's tables; NaN if there is no value.

    Carries what an exact mean over documents needs: see stats.estimates.
    """
    measured = _ALL_METRICS[metric](score)
    quality = math.nan if score.quality_score is None else score.quality_score
    prompt = score.sample.prompt_id if score.sample.repeats > 1 else ""
    return DocumentValue(
        math.nan if measured is None else float(measured),
        cluster=instruction(score.sample) or prompt,
        # version 1.0 averaged S̄ over the judged responses alone
        parts=(score.length_score, quality)
        if metric == "overall_score" and score.sample.version >= 1.1
        else None,
        bucket=score.bucket,
        prompt=prompt,
    )


def prompt_values(scores: Sequence[Score], metrics: Iterable[str]) -> dict[str, DocumentValue]:
    """Metric -> value of a prompt with these responses; of several, the mean and the spread."""
    metrics = [metric for metric in metrics if not metric.endswith("_spread")]
    if len(scores) == 1:
        return {metric: value(scores[0], metric) for metric in metrics}
    values = {metric: [value(score, metric) for score in scores] for metric in metrics}
    means = {metric: DocumentValue.of_responses(values[metric]) for metric in values}
    spreads = {
        f"{metric}_spread": DocumentValue(spread(values[metric]), instruction(scores[0].sample))
        for metric in SPREAD_METRICS
        if metric in values
    }
    return {**means, **spreads}


def with_spreads(metrics: Mapping[str, bool], repeats: int) -> dict[str, bool]:
    """The metrics of a task, and whether higher is better, if prompts have several responses."""
    spreads = {f"{name}_spread": False for name in SPREAD_METRICS if name in metrics}
    return {**metrics, **(spreads if repeats > 1 else {})}


def instruction(sample: Sample) -> str:
    """The part that several ruler prompts share: the text without the required length."""
    return re.sub(r"\d+", "", sample.prompt) if is_ruler(sample) else ""


def clean_response(response: str, version: float = TASK_VERSION) -> str:
    """The text to count and judge: without thinking, special tokens and surrounding whitespace.

    Lone surrogates become escapes, because a log that contains one cannot be written. Tasks of
    version 1.0 counted the thinking.
    """
    text = encodable(response)
    if version < 1.1:
        return strip_special_tokens(text)
    answer = without_thinking(text)
    if answer != text:
        return strip_special_tokens(answer)
    # a special token, such as <|assistant|>, may stand before the thinking
    return without_thinking(strip_special_tokens(text)).strip()


def score_response(
    sample: Sample, text: str, *, reached_limit: bool, judgement: Judgement | None
) -> Score:
    """Score the response `text`, as clean_response gives it.

    `reached_limit` says that the backend stopped at its token limit. Raises TypeError or
    ValueError if `sample` has no usable required length.
    """
    words = count_words(text)
    return Score(
        sample=sample,
        text=text,
        bucket=bucket_name(sample.id, sample.required),
        words=words,
        length_score=length_score(sample.required, words),
        diagnostics=diagnose(sample.prompt, text, reached_limit=reached_limit),
        judgement=judgement,
    )


def is_ruler(sample: Sample) -> bool:
    """Whether a sample belongs to LongWrite-Ruler."""
    return _is_rulers(sample.id)


def bucket_name(id: str, required: int) -> str:
    """The bucket of a prompt: the paper's, or the required length for the ruler."""
    return f"{required / 1000:g}k" if _is_rulers(id) else bucket(required)


def _is_rulers(id: str) -> bool:
    return id.startswith("longwrite_ruler/")


def _dimension(name: str) -> Callable[[Score], float | None]:
    return lambda score: score.quality[name] if score.quality else None


def _diagnostic(name: str) -> Callable[[Score], float | None]:
    return lambda score: float(getattr(score.diagnostics, name))


# Metric names of the tasks, in display order.
METRICS: dict[str, Callable[[Score], float | None]] = {
    "overall_score": lambda score: score.overall_score,
    "length_score": lambda score: score.length_score,
    "quality_score": lambda score: score.quality_score,
    **{f"quality_{name}": _dimension(name) for name in DIMENSIONS},
    "output_words": lambda score: score.words,
    **{name: _diagnostic(name) for name in DIAGNOSTICS},
}

# Metrics that the lm-eval tasks report -> whether higher is better.
LENGTH_METRICS = {
    "length_score": True,
    "output_words": True,
    **{name: name == "diversity" for name in DIAGNOSTICS},
}
RULER_METRICS = {**LENGTH_METRICS, "max_output_words": True}
JUDGED_METRICS = {
    **LENGTH_METRICS,
    "quality_score": True,
    "overall_score": True,
    **{f"quality_{name}": True for name in DIMENSIONS},
    "judge_coverage": True,
}
SEGMENT_METRICS = {"quality_drift": True}  # with judge_segments; a negative drift is a decline


def judged_metrics(segments: int | None) -> dict[str, bool]:
    """The metrics of a judged task, by the number of parts that are judged."""
    return JUDGED_METRICS | (SEGMENT_METRICS if segments else {})


# Of several responses to a prompt, the standard deviation of these is reported.
SPREAD_METRICS = ("overall_score", "length_score", "quality_score")

_ALL_METRICS: dict[str, Callable[[Score], float | None]] = {
    **METRICS,
    "max_output_words": METRICS["output_words"],
    "judge_coverage": lambda score: float(score.quality is not None),
    "quality_drift": lambda score: score.judgement.drift if score.judgement else None,
}


def score_sample(sample: Sample) -> Score:
    """Score a sample of a finished run. Raises InputError if its log is malformed."""
    try:
        text, record = clean_response(sample.response, sample.version), sample.judgement
        return score_response(
            sample,
            text,
            reached_limit=sample.reached_limit,
            judgement=Judgement.from_record(record, text, sample.version)
            if record is not None
            else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{sample.id} in {sample.task} cannot be scored, its log is malformed ({error!r})"
        ) from error
