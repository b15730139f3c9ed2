"""Statistics of a file that AgentWrite reads or writes: instructions, texts, SFT or DPO rows.

    from agentwrite.data.stats import stats

    print(stats(Path("runs/texts")).lengths["words"].median)

Words and S_l are computed from the texts; the values stored in the rows are ignored. Memory holds
a few numbers per row.
"""

import statistics
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from longwriter_core.errors import InputError
from longwriter_core.jsonl import read_jsonl
from longwriter_core.llm.profiles import cost
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words, length_score
from longwriter_core.text.required_length import required_length
from longwriter_core.text.thinking import without_thinking

Kind = Literal["instructions", "texts", "sft", "dpo"]

# Upper bounds of the histogram, in words.
_BOUNDS = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)

_MAX_VALUE = 10**9  # words, tokens or scores; larger values are errors and are ignored


@dataclass(frozen=True)
class Distribution:
    """Summary statistics of some numbers."""

    count: int
    min: float
    median: float
    mean: float
    max: float


@dataclass(frozen=True)
class Lengths(Distribution):
    """Summary statistics of lengths in words, with a histogram from "[0,500)" to "[32k,∞)"."""

    histogram: Mapping[str, int]


@dataclass(frozen=True)
class Stats:
    """Statistics of a file. The mappings omit names for which no row has a value.

    lengths   words (of the texts, the answers, the chosen answers), rejected_words, required
    numbers   produced (words per required word), length_score, chosen_score, rejected_score, margin
    counts    languages, types, sources, models; cleaned, by rule; rejected (replies), by reason

    `cost` is the list price of the tokens in USD; None if a price is unknown.
    """

    path: str
    kind: Kind
    rows: int
    lengths: Mapping[str, Lengths]
    numbers: Mapping[str, Distribution]
    counts: Mapping[str, Mapping[str, int]]
    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON-serialisable data."""
        return asdict(self)


@dataclass
class _Count:
    lengths: dict[str, "array[int]"] = field(default_factory=dict)
    numbers: dict[str, "array[float]"] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)
    prices: list[float | None] = field(default_factory=list)

    def length(self, name: str, words: object) -> None:
        if type(words) is int:
            self.lengths.setdefault(name, array("q")).append(words)

    def number(self, name: str, value: object) -> None:
        if isinstance(value, int | float) and abs(value) <= _MAX_VALUE:  # false for NaN
            self.numbers.setdefault(name, array("d")).append(value)

    def name(self, name: str, value: object) -> None:
        if isinstance(value, str) and value:
            shown = "".join(char if char.isprintable() else "\ufffd" for char in value)
            self.counts.setdefault(name, Counter())[shown] += 1

    def rules(self, name: str, value: object) -> None:
        if isinstance(value, Mapping):
            numbers = {str(rule): n for rule, times in value.items() if (n := _length(times))}
            self.counts.setdefault(name, Counter()).update(numbers)


def stats(path: Path) -> Stats:
    """Compute the statistics of a file, or of texts.jsonl in a run folder.

    Raises InputError with the file and line if a row has no known kind, or another kind than the
    rows before it.
    """
    path = path / "texts.jsonl" if path.is_dir() else path
    count, kind, rows = _Count(), None, 0
    for number, row in read_jsonl(path):
        row_kind = _kind_of(row)
        if row_kind is None or kind not in (None, row_kind):
            raise InputError(
                f"{path}, line {number}: "
                + (
                    f"a row of {row_kind} after rows of {kind}"
                    if row_kind
                    else "no instruction, text, messages, or chosen and rejected answer of the "
                    "forms that we write"
                )
            )
        kind, rows = row_kind, rows + 1
        _READERS[kind](row, count)
        _read_common(row, count)
    if kind is None:
        raise InputError(f"{path} holds no rows")
    known = [price for price in count.prices if price is not None]
    return Stats(
        path=str(path),
        kind=kind,
        rows=rows,
        lengths={name: _lengths(values) for name, values in count.lengths.items()},
        numbers={name: _distribution(values) for name, values in count.numbers.items()},
        counts={name: dict(times.most_common()) for name, times in count.counts.items() if times},
        prompt_tokens=count.tokens["prompt"],
        completion_tokens=count.tokens["completion"],
        cost=sum(known) if known and len(known) == len(count.prices) else None,
    )


def _kind_of(row: Mapping[str, Any]) -> Kind | None:
    if _content(row.get("chosen")) is not None and _content(row.get("rejected")) is not None:
        return "dpo" if _turns(row) else None
    if turns := _turns(row):
        return "sft" if turns[-1].get("role") == "assistant" else None
    if not isinstance(row.get("instruction", row.get("prompt")), str):
        return None
    return "texts" if isinstance(row.get("text"), str) else "instructions"


def _turns(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    turns = row.get("messages")
    is_chat = isinstance(turns, list) and all(_content(turn) is not None for turn in turns)
    return turns if is_chat and isinstance(turns, list) else []


def _content(turn: object) -> str | None:
    content = turn.get("content") if isinstance(turn, Mapping) else None
    return content if isinstance(content, str) else None


def _read_common(row: Mapping[str, Any], count: _Count) -> None:
    count.name("types", row.get("type"))
    selection = row.get("selection")
    source = selection.get("source") if isinstance(selection, Mapping) else None
    count.name("sources", row.get("source", source))


def _read_instruction(row: Mapping[str, Any], count: _Count) -> None:
    text = row.get("instruction", row.get("prompt"))
    length = _length(row.get("length", row.get("required")))
    count.length("required", length or required_length(text or ""))
    count.name("languages", row.get("language") or main_language(text or ""))


def _read_text(row: Mapping[str, Any], count: _Count) -> None:
    _read_answer(row["text"], row.get("required"), count)
    models = row["models"] if isinstance(row.get("models"), list) else []
    for model in models:
        count.name("models", model)
    count.rules("cleaned", row.get("cleaned"))
    count.rules("rejected", row.get("rejected"))
    prompt, completion = (
        _length(row.get(f"{name}_tokens")) or 0 for name in ("prompt", "completion")
    )
    count.tokens.update(prompt=prompt, completion=completion)
    # the row does not split the tokens by model, so the cost of several models is unknown
    count.prices.append(cost(str(models[0]), prompt, completion) if len(models) == 1 else None)


def _read_sft(row: Mapping[str, Any], count: _Count) -> None:
    _read_answer(row["messages"][-1]["content"], row.get("required"), count)
    count.name("models", row.get("model"))


def _read_dpo(row: Mapping[str, Any], count: _Count) -> None:
    _read_answer(row["chosen"]["content"], row.get("required"), count)
    count.length("rejected_words", count_words(without_thinking(row["rejected"]["content"])))
    for name in ("chosen_score", "rejected_score", "margin"):
        count.number(name, row.get(name))
    count.name("models", row.get("model"))


def _read_answer(text: str, required: object, count: _Count) -> None:
    words = count_words(without_thinking(text))
    count.length("words", words)
    count.name("languages", main_language(text))
    if required := _length(required):
        count.length("required", required)
        count.number("produced", words / required)
        count.number("length_score", length_score(required, words))


def _length(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _MAX_VALUE else None


_READERS: dict[Kind, Callable[[Mapping[str, Any], _Count], None]] = {
    "instructions": _read_instruction,
    "texts": _read_text,
    "sft": _read_sft,
    "dpo": _read_dpo,
}


def _distribution(values: Sequence[float]) -> Distribution:
    mean, median = statistics.fmean(values), statistics.median(values)
    return Distribution(len(values), min(values), median, mean, max(values))


def _lengths(words: Sequence[int]) -> Lengths:
    bins = {label: 0 for _, label in _bins()}
    for value in words:
        bins[next(label for end, label in _bins() if value < end)] += 1
    return Lengths(**asdict(_distribution(words)), histogram=bins)


def _bins() -> Iterator[tuple[float, str]]:
    start = 0
    for end in _BOUNDS:
        yield end, f"[{_short(start)},{_short(end)})"
        start = end
    yield float("inf"), f"[{_short(start)},∞)"


def _short(words: int) -> str:
    return f"{words // 1000}k" if words and words % 1000 == 0 else str(words)
