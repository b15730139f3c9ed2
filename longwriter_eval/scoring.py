"""What a run's samples score, computed anew from their responses and verdicts."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from longwriter_core.errors import InputError
from longwriter_core.text.diagnostics import METRICS as DIAGNOSTICS
from longwriter_core.text.diagnostics import Diagnostics, diagnose
from longwriter_core.text.length import bucket, count_words, length_score
from longwriter_core.text.special_tokens import encodable, strip_special_tokens
from longwriter_eval.judge.judgement import Judgement
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.runs import Sample


@dataclass(frozen=True)
class Score:
    """One response and its scores. `text` is the response as it was counted and judged.

    `bucket` is the paper's ("[0,500)" …), for the ruler the required length itself ("10k").
    `judgement` is None where no judge was asked.
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
        """ "judged", "unjudged" where no judge was asked, or why there is no verdict."""
        return self.judgement.status if self.judgement else "unjudged"

    @property
    def quality(self) -> Mapping[str, float] | None:
        """The six dimensions, 0–100 each, the mean over repeats; None without a verdict."""
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

    Of what the log says, only responses, the judge's replies, and that a backend reached its
    token limit are believed. A prompt that several tasks of a run ask (a bucket and
    longbench_write_en) has a response in each; the one of a judged task counts, and of several
    the task that comes first by name, whatever their scores. Raises InputError for a sample that
    cannot be scored.
    """
    ranked = sorted(samples, key=lambda sample: (sample.judgement is None, sample.task))
    first: dict[str, Sample] = {}
    for sample in ranked:
        first.setdefault(sample.id, sample)
    return [_score(first[id]) for id in sorted(first)]


def value(score: Score, metric: str) -> float:
    """A metric of METRICS, on the scale that lm-eval's tables have; NaN where there is none."""
    found = METRICS[metric](score)
    return math.nan if found is None else float(found)


def _dimension(name: str) -> Callable[[Score], float | None]:
    return lambda score: score.quality[name] if score.quality else None


def _diagnostic(name: str) -> Callable[[Score], float | None]:
    return lambda score: score.diagnostics.as_dict()[name]


# Names are those of the tasks' metrics; the order is the one to show them in.
METRICS: dict[str, Callable[[Score], float | None]] = {
    "overall_score": lambda score: score.overall_score,
    "length_score": lambda score: score.length_score,
    "quality_score": lambda score: score.quality_score,
    **{f"quality_{name}": _dimension(name) for name in DIMENSIONS},
    "output_words": lambda score: score.words,
    **{name: _diagnostic(name) for name in DIAGNOSTICS},
}


def _score(sample: Sample) -> Score:
    try:
        text = strip_special_tokens(encodable(sample.response))
        words, record = count_words(text), sample.judgement
        is_ruler = sample.id.startswith("longwrite_ruler/")
        return Score(
            sample=sample,
            text=text,
            bucket=f"{sample.required / 1000:g}k" if is_ruler else bucket(sample.required),
            words=words,
            length_score=length_score(sample.required, words),
            diagnostics=diagnose(
                sample.prompt, text, reached_limit=bool(sample.row.get("cut_off"))
            ),
            judgement=Judgement.from_record(record, text) if record is not None else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{sample.id} in {sample.task} cannot be scored, its log is malformed ({error!r})"
        ) from error
