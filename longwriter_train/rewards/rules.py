"""The rewards that need no judge: length, and form with repetition. Pure.

TRL calls `length` and `form` with the columns of the rows, one entry for each completion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_core.text.diagnostics import FAULTS, diagnose
from longwriter_core.text.length import count_words
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_core.text.thinking import without_thinking

Text = str | Sequence[Mapping[str, str]]  # as TRL passes prompts and completions


def text_of(turns: Text) -> str:
    """Return the last message of a prompt or completion, or the text itself."""
    return turns if isinstance(turns, str) else turns[-1]["content"]


def answer_of(completion: Text) -> str:
    """Return a completion without its thinking, which never counts."""
    return strip_special_tokens(without_thinking(text_of(completion)))


def length_reward(words: int, low: int, high: int, max_words: int) -> float:
    """Return the length reward (0..1) of an answer of `words` words.

    It is 1 from `low` to `high` words, words / low below, and falls linearly to 0 at `max_words`
    above. Source: LongWriter-Zero's length reward, where `max_words` is the longest possible
    output.
    """
    if words < low:
        return words / low
    if words <= high:
        return 1.0
    return max(0.0, (max_words - words) / (max_words - high))


def form_reward(prompt: str, answer: str) -> float:
    """Return the reward (0..1) for form: 0 with a fault, else the share that is not repeated.

    The faults are those of `longwriter_core.text.diagnostics`: an answer that is empty, breaks off,
    refuses, announces a continuation, is in another language than its prompt asks for, or has
    thinking between its paragraphs.
    """
    found = diagnose(prompt, answer)
    if any(found.as_dict()[fault] for fault in FAULTS):
        return 0.0
    return 1.0 - found.repetition


def length(
    completions: Sequence[Text],
    low: Sequence[int],
    high: Sequence[int],
    max_words: Sequence[int],
    **_: Any,
) -> list[float]:
    """Return the length reward of each completion, from the columns of `prompts`."""
    words = (count_words(answer_of(completion)) for completion in completions)
    return list(map(length_reward, words, low, high, max_words))


def form(prompts: Sequence[Text], completions: Sequence[Text], **_: Any) -> list[float]:
    """Return the form reward of each completion."""
    return [
        form_reward(text_of(prompt), answer_of(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
