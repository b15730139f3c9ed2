"""The six dimensions, reading a verdict out of a judge's reply, and the quality score S_q. Pure."""

import json
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from longwriter_core.files import sha256
from longwriter_core.text.thinking import without_thinking
from longwriter_eval.judge.planted import is_planted, unescaped
from longwriter_eval.judge.segments import cut, drift
from longwriter_eval.judge.version_1_0 import read_verdict as read_verdict_1_0
from longwriter_eval.version import TASK_VERSION

# metric name -> the judge's name for the dimension, in the paper's order
DIMENSIONS = {
    "relevance": "Relevance",
    "accuracy": "Accuracy",
    "coherence": "Coherence",
    "clarity": "Clarity",
    "breadth_depth": "Breadth and Depth",
    "reading_experience": "Reading Experience",
}

Scores = dict[str, int]  # dimension -> 1..5

# Characters. Replies without thinking are far shorter. The limit bounds the parsing time, which
# is quadratic in nested braces.
_MAX_REPLY = 50_000

_KEYS = {name.casefold(): dimension for dimension, name in DIMENSIONS.items()}
_SEPARATORS = re.compile(r"[\s_-]+")
_TRAILING_COMMA = re.compile(r",(\s*\})")
_GROUP = re.compile(r"\{[^{}\"]*\}")  # LaTeX and sets; JSON objects contain quotes
_NAME = "(relevance|accuracy|coherence|clarity|breadth and depth|reading experience)"
# A score as text: "4", "4/5", "4 out of 5".
_SCORE_TEXT = re.compile(r"\s*([1-5])(?:\.0)?\s*(?:(?:/|out of)\s*5\s*)?")
# What some judges wrap the scores in, beside the analysis, or one score.
_WRAPPERS = ("scores", "ratings", "grades")
_SCORE_KEYS = ("score", "rating", "grade", "value")
# A dimension and its score in an object that is almost JSON: other quotes, or none.
_LOOSE = re.compile(
    r"[\"'“”‘’]?\s*\b"
    + _NAME.replace(" and ", r"[ _]*(?:and|&)[ _]*").replace("reading ", "reading[ _]*")
    + r"\s*[\"'“”‘’]?\s*[:：]\s*[\"'“”‘’]?"
    + _SCORE_TEXT.pattern
    + r"[\"'“”‘’]?\s*(?=[,，}\n])",
    re.IGNORECASE,
)


def verdict_schema() -> dict[str, Any]:
    """The `response_format` of a verdict, for endpoints that support it."""
    score = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    properties = {"Analysis": {"type": "string"}, **dict.fromkeys(DIMENSIONS.values(), score)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "strict": True, "schema": schema},
    }


def read_verdict(reply: str, response: str = "") -> Scores | None:
    """The six scores (1..5) that a judge's reply gives to `response`; None if it has no verdict.

    A verdict is a JSON object with a whole number from 1 to 5 for every dimension, fenced or not.
    Judges quote the response, so a response can plant its own verdict in the reply. The reply
    therefore has no verdict if

    - several objects with scores disagree,
    - unbalanced braces show that an object is part of something larger,
    - its scores, or the object itself, also occur in the response, in any notation.

    Thinking before the answer is ignored.
    """
    text = _TRAILING_COMMA.sub(r"\1", without_thinking(reply))
    objects = _objects(text) if len(text) <= _MAX_REPLY else None
    unwrapped = [(_unwrapped(parsed), raw) for parsed, raw in objects or ()]
    scored = [(parsed, raw) for parsed, raw in unwrapped if _names_dimension(parsed)]
    read = [_scores(parsed) for parsed, _ in scored]
    if not read and (loose := _loose_scores(text)):
        scored, read = [({}, text[text.index("{") :])], [loose]
    if not read or any(scores != read[0] for scores in read) or read[0] is None:
        return None
    named = {DIMENSIONS[dimension].casefold(): score for dimension, score in read[0].items()}
    if any(is_planted(named, raw, response) for _, raw in scored):
        return None
    return read[0]


def quality_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Each dimension on 0..100, `(score - 1) * 25`, and their mean S_q under "score".

    Source: arXiv 2408.07055, section 2.
    """
    scaled = {dimension: (scores[dimension] - 1) * 25.0 for dimension in DIMENSIONS}
    return {**scaled, "score": sum(scaled.values()) / len(scaled)}


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object of a reply; None if stray braces suggest that it is nested."""
    objects = _objects(text) if len(text) <= _MAX_REPLY else None
    return objects[-1][0] if objects else None


def _dimension(key: str) -> str | None:
    return _KEYS.get(_SEPARATORS.sub(" ", key.replace("&", " and ")).strip().casefold())


def _unwrapped(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object with the scores, if `parsed` names none and wraps one, as in "Scores": {…}."""
    inner = [value for value in parsed.values() if isinstance(value, dict)]
    wrapped = [
        value
        for key, value in parsed.items()
        if isinstance(value, dict) and key.strip().casefold() in _WRAPPERS
    ]
    is_wrapper = not _names_dimension(parsed) and len(inner) == len(wrapped) == 1
    return wrapped[0] if is_wrapper else parsed


def _loose_scores(text: str) -> Scores | None:
    """The scores in an object that is almost JSON: unescaped or other quotes, or comments.

    The reply must hold one pair of braces and name each dimension in it once. Anything else may be
    quoted from the response.
    """
    start, end = text.find("{"), text.rfind("}")
    if len(text) > _MAX_REPLY or text.count("{") != 1 or text.count("}") != 1 or start > end:
        return None
    inside = unescaped(text[start:])
    found = [(_dimension(name), int(score)) for name, score in _LOOSE.findall(inside)]
    scores = {name: score for name, score in found if name}
    if len(found) != len(DIMENSIONS) or len(scores) != len(DIMENSIONS):
        return None
    return {dimension: scores[dimension] for dimension in DIMENSIONS}


def _names_dimension(parsed: Mapping[str, Any]) -> bool:
    return any(_dimension(key) for key in parsed)


def _scores(parsed: Mapping[str, Any]) -> Scores | None:
    scores: Scores = {}
    for key, value in parsed.items():
        dimension = _dimension(key)
        if dimension is None:
            continue
        if isinstance(value, dict):  # {"score": 4, "reason": …}
            rated = [value[name] for name in _SCORE_KEYS if name in value]
            value = rated[0] if len(rated) == 1 else None
        if isinstance(value, str) and (written := _SCORE_TEXT.fullmatch(value)):
            value = int(written[1])
        # bool is a subclass of int in Python; 4.0 and 4 are the same number in JSON
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if value not in (1, 2, 3, 4, 5) or dimension in scores:
            return None
        scores[dimension] = int(value)
    if len(scores) < len(DIMENSIONS):
        return None
    return {dimension: scores[dimension] for dimension in DIMENSIONS}


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _DuplicateKeyError
    return dict(pairs)


# strict=False, because judges write raw line breaks into their analysis.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unique)


def _objects(text: str) -> list[tuple[dict[str, Any], str]] | None:
    """The JSON objects of a reply and their sources; None if stray braces surround one.

    All braces before an object must be closed. After the last object, only groups without quotes
    are allowed, such as those of LaTeX. Other braces may close a larger object that quotes this
    one from the response.
    """
    with_sources: list[tuple[dict[str, Any], str]] = []
    end = unclosed = 0  # where the last object ends; braces left open before it
    position = text.find("{")
    while position >= 0:
        unclosed -= text.count("}", end, position)
        if unclosed < 0:  # an unmatched closing brace would hide an open one
            break
        try:
            parsed, end = _DECODER.raw_decode(text, position)
            if parsed:  # {} is LaTeX
                if unclosed:
                    return None
                with_sources.append((parsed, text[position:end]))
                rest = text[end:]
        except (ValueError, RecursionError):
            unclosed += 1
            end = position + 1
        position = text.find("{", end)
    if not with_sources:
        return None
    while (shorter := _GROUP.sub("", rest)) != rest:
        rest = shorter
    return None if "{" in rest or "}" in rest else with_sources


@dataclass(frozen=True)
class Verdict:
    """One judge's verdict on one response: scores, or the reason why they are missing.

    Reasons: parse_error, cut, refused, context_overflow, transport_error, not_asked. `asks` counts
    all calls for this verdict, `retries` the failed attempts of the last call.
    """

    repeat: int
    scores: Scores | None = None
    reason: str | None = "not_asked"
    detail: str | None = None
    raw: str = ""
    model: str | None = None
    asks: int = 0
    retries: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt's
    escaped: bool = False
    call: str | None = None
    judge: str | None = None  # in a panel, the judge's name
    segment: int | None = None  # the part that was judged, from 0; None for the whole response

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Verdict":
        """The verdict of a sample log. Raises TypeError if it has unknown names or a wrong type."""
        if not isinstance(record.get("judge"), str | None):
            raise TypeError(f"judge is {record['judge']!r}")
        if not isinstance(record.get("segment"), int | None):
            raise TypeError(f"segment is {record['segment']!r}")
        return cls(**{"escaped" if key == "defused" else key: record[key] for key in record})

    @property
    def place(self) -> tuple[str | None, int, int | None]:
        """Its place among the verdicts on a response: judge, repeat and part."""
        return self.judge, self.repeat, self.segment

    def record(self) -> dict[str, Any]:
        """The verdict's record in a sample log."""
        optional = ("judge", "segment")
        fields = {k: v for k, v in vars(self).items() if k not in optional or v is not None}
        return {"defused" if name == "escaped" else name: fields[name] for name in fields}


@dataclass(frozen=True)
class Item:
    """A response to judge; `id` links the verdicts to it in whatever order the calls finish.

    Repeats that are already in `verdicts` are not judged again.
    """

    id: str
    instruction: str
    response: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """All verdicts on one response, which counts as judged if every judge has given it scores."""

    verdicts: tuple[Verdict, ...]
    prompt_sha256: str
    response_sha256: str
    quality: dict[str, float] = field(default_factory=dict)
    spread: float | None = None
    # deviations from the paper's protocol, see JudgeSettings.departures
    departures: Mapping[str, Any] = field(default_factory=dict)
    segments: tuple[Verdict, ...] = ()  # on parts of the response; they leave `quality` alone
    drift: float | None = None  # points of S_q from the first word to the last

    @classmethod
    def of(
        cls,
        verdicts: Iterable[Verdict],
        prompt: str,
        response: str,
        departures: Mapping[str, Any] | None = None,
    ) -> "Judgement":
        """Average the repeats of each judge that have scores, and then the judges.

        `spread` is the standard deviation of S_q between repeats.
        """
        given = sorted(verdicts, key=lambda v: (v.judge or "", v.repeat, v.segment or 0))
        segments = tuple(verdict for verdict in given if verdict.segment is not None)
        verdicts = tuple(verdict for verdict in given if verdict.segment is None)
        by_judge: dict[str | None, list[dict[str, float]]] = {v.judge: [] for v in verdicts}
        for verdict in verdicts:
            if verdict.scores:
                by_judge[verdict.judge].append(quality_scores(verdict.scores))
        variances = [
            statistics.variance(each["score"] for each in repeats)
            for repeats in by_judge.values()
            if len(repeats) > 1
        ]
        return cls(
            verdicts,
            prompt,
            sha256(response),
            _means(_means(repeats) for repeats in by_judge.values()),
            statistics.fmean(variances) ** 0.5 if variances else None,
            departures or {},
            segments,
            drift(cut(response, _number(segments)), segment_scores(segments)),
        )

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], response: str, version: float = TASK_VERSION
    ) -> "Judgement":
        """The judgement on `response` in a sample log, with scores parsed from the raw replies.

        The replies are read by the rules of the task's `version`.

        Verdicts on a text other than `response` have no scores and the reason "response_changed".
        Raises KeyError, TypeError or ValueError for a malformed record.
        """
        is_same = record["response_sha256"] == sha256(response)
        verdicts = [
            _read_again(Verdict.from_record(entry), response if is_same else None, version)
            for entry in record["verdicts"]
        ]
        if not verdicts:
            raise ValueError("no verdicts")
        segments = [Verdict.from_record(entry) for entry in record.get("segments") or ()]
        parts = cut(response, _number(segments)) if is_same else ()
        for verdict in segments:
            has_part = (verdict.segment or 0) < len(parts)
            verdicts.append(_read_again(verdict, response if has_part else None, version))
        departures = dict(record.get("departures") or {})
        return cls.of(verdicts, record["prompt_sha256"], response, departures)

    @property
    def judges(self) -> dict[str, float]:
        """In a panel, each judge that gave scores -> its S_q."""
        scored = [(v.judge, quality_scores(v.scores)) for v in self.verdicts if v.scores]
        names = dict.fromkeys(name for name, _ in scored if name)
        return {
            name: statistics.fmean(each["score"] for judge, each in scored if judge == name)
            for name in names
        }

    @property
    def missing(self) -> list[str]:
        """The reason of each verdict without scores."""
        verdicts = (*self.verdicts, *self.segments)
        return [str(verdict.reason) for verdict in verdicts if not verdict.scores]

    @property
    def status(self) -> str:
        """ "judged", or the reason of the last verdict without scores."""
        if self.quality:
            return "judged"
        return next(str(v.reason) for v in reversed(self.verdicts) if not v.scores)

    def record(self) -> dict[str, Any]:
        """The record in a sample log, from which every score can be recomputed."""
        return {
            "status": self.status,
            "prompt_sha256": self.prompt_sha256,
            "response_sha256": self.response_sha256,
            "spread": self.spread,
            "departures": dict(self.departures),
            "verdicts": [verdict.record() for verdict in self.verdicts],
            **(
                {"segments": [verdict.record() for verdict in self.segments]}
                if self.segments
                else {}
            ),
        }


def segment_scores(segments: Iterable[Verdict]) -> list[float | None]:
    """S_q of each part, averaged over judges; None where a judge gave no scores."""
    segments = list(segments)
    scores: list[float | None] = []
    for number in range(_number(segments)):
        of_part = [v.scores for v in segments if v.segment == number]
        rated = [quality_scores(each)["score"] for each in of_part if each]
        scores.append(statistics.fmean(rated) if rated and len(rated) == len(of_part) else None)
    return scores


def _number(segments: Iterable[Verdict]) -> int:
    """The number of parts; 0 if there are none."""
    return max((verdict.segment or 0 for verdict in segments), default=-1) + 1


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each value over `rows`; {} if there are none, or one of them is empty."""
    rows = list(rows)
    if not rows or not all(rows):
        return {}
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def read_by_version(reply: str, response: str, version: float) -> Scores | None:
    """The scores in a judge's reply, by the rules of a version of the tasks."""
    if version < 1.1:
        return read_verdict_1_0(reply, DIMENSIONS)
    return read_verdict(reply, response)


def _read_again(verdict: Verdict, response: str | None, version: float) -> Verdict:
    """The verdict parsed from its raw reply; `response` is None if the text has changed."""
    if verdict.scores and response is None:
        return replace(verdict, scores=None, reason="response_changed")
    # a reply that was cut off has no scores, even if it looks like a verdict
    scores = read_by_version(verdict.raw, response or "", version) if verdict.scores else None
    return replace(
        verdict, scores=scores, reason=None if scores else verdict.reason or "parse_error"
    )
