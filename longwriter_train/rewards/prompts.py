"""Prompts for `rl: grpo`: instructions with the range of words that their answers should have.

A row is an instruction as `agentwrite run` and `agentwrite select` have them: `instruction` or
`prompt`, or a conversation under `messages`, whose first user message is the instruction. The range
is `low` and `high`, or 10% around the `length` in words, or around the length that the instruction
names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from longwriter_core.conversation import UnusableRowError, first_instruction
from longwriter_core.text.required_length import required_length
from longwriter_core.text.special_tokens import special_token_in

TOLERANCE = 0.1  # of the required length; an answer that far off has an S_l of 94 or more


def prompt_row(row: Mapping[str, Any], max_words: int) -> dict[str, Any]:
    """Return a row for TRL: `prompt`, and the columns that `rewards.length` reads.

    `max_words` is the longest possible answer, where the length reward reaches 0. Raises
    UnusableRowError for a row without an instruction or a range, or with a range that reaches
    `max_words`.
    """
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        first = first_instruction(row)
        instruction = first.text if first else ""
    if not instruction.strip():
        raise UnusableRowError("shape", "has no text as `instruction`, `prompt` or `messages`")
    if token := special_token_in(instruction):
        raise UnusableRowError("special_tokens", f"has {token} in its instruction")
    low, high = _range(row, instruction)
    if high >= max_words:
        raise UnusableRowError(
            "shape",
            f"asks for up to {high:,} words, and an answer has at most {max_words:,} tokens "
            "(trl.max_completion_length)",
        )
    message = {"role": "user", "content": instruction.strip()}
    return {"prompt": [message], "low": low, "high": high, "max_words": max_words}


def _range(row: Mapping[str, Any], instruction: str) -> tuple[int, int]:
    low, high = row.get("low"), row.get("high")
    if low is not None or high is not None:
        if not (type(low) is int and type(high) is int and 1 <= low <= high):
            raise UnusableRowError(
                "shape", f"has {low!r} and {high!r} as `low` and `high`, which are not a range"
            )
        return low, high
    length = row.get("length")
    if length is None:
        length = row.get("required")
    if length is None:
        length = required_length(instruction)
    if length is None:
        raise UnusableRowError(
            "shape", "names no length: give it a `length`, or `low` and `high`, in words"
        )
    if type(length) is not int or length < 1:
        raise UnusableRowError("shape", f"has {length!r} as its `length`, not a number of words")
    return max(1, round(length * (1 - TOLERANCE))), round(length * (1 + TOLERANCE))


def max_words_of(recipe: Mapping[str, Any]) -> int:
    """Return the longest possible answer in words: a token is at most about one word."""
    return int((recipe.get("trl") or {}).get("max_completion_length") or 256)  # TRL's default


def load(cfg: Any, **_: Any) -> tuple[Callable[..., dict[str, Any]], dict[str, str]]:
    """Return the strategy for `type: longwriter_train.prompts`."""
    max_words = max_words_of(cfg)

    def transform(row: Mapping[str, Any]) -> dict[str, Any]:
        return prompt_row(row, max_words)

    return transform, {"remove_columns": "__all__"}
