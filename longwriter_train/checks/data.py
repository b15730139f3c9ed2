"""What is wrong with training data, said before a model is loaded. Reading needs axolotl."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.jsonl import scan_jsonl
from longwriter_core.overlap import PromptIndex, benchmark_prompts
from longwriter_core.text.special_tokens import encodable, special_token_in
from longwriter_train.chat import pair

ROLES = ("system", "user", "assistant")
_SHOWN = 5  # problems in one message
_LINES = (".jsonl", ".json")


@dataclass(frozen=True)
class Checked:
    """One data set of a recipe, read whole."""

    path: str
    rows: int
    wrong: list[tuple[str, str]]  # a row's place, such as "line 3", and what is wrong with it


def problem(row: Any, dpo: bool) -> str | None:
    """Why a row cannot be trained on; None where it can."""
    if not isinstance(row, Mapping):
        return "is not an object"
    try:
        conversations = _conversations(row, dpo)
    except ValueError as error:
        return str(error)
    for messages in conversations:
        if not isinstance(messages, list) or not messages:
            return "has no list of messages"
        for message in messages:
            if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
                return "has a message without text as its `content`"
            if message.get("role") not in ROLES:
                return (
                    f"has a message of the role {message.get('role')!r}, not of {', '.join(ROLES)}"
                )
        if messages[-1]["role"] != "assistant":
            return "does not end with an answer of the role assistant"
        if not any(message["role"] == "user" for message in messages):
            return "has no message of the role user"
        if wrong := _wrong_turn(messages):
            return wrong
    answers = [messages[-1]["content"].strip() for messages in conversations]
    if not answers[0]:
        return "has an empty answer"
    if answers[0] in answers[1:]:
        return "has the same text as `chosen` and `rejected`"
    return None


def _wrong_turn(messages: list[Mapping[str, str]]) -> str | None:
    """What the templates would render as another conversation, or not at all."""
    if messages[0]["role"] == "assistant":
        return "begins with an answer, which has no prompt"
    for message, following in pairwise(messages):
        if message["role"] == "assistant":
            if following["role"] != "user":  # GLM-4 ends an answer with the user's header
                return f"has a message of the role {following['role']!r} right after an answer"
            if not message["content"].strip():
                return "has an empty answer"
    for message in messages:
        if token := special_token_in(message["content"]):
            return f"has {token} in a text, which a tokenizer takes for the end or start of a turn"
        if encodable(message["content"]) != message["content"]:
            return "has half of a character (a lone surrogate) in a text"
    return None


def is_file(entry: Mapping[str, Any]) -> bool:
    """Whether a recipe's data set is a JSONL file of the user, which they can correct."""
    path = str(entry["path"])
    return Path(path).suffix in _LINES and "://" not in path


def check(recipe: Mapping[str, Any]) -> Iterator[Checked]:
    """Every data set of a recipe, read whole, in order; nothing is raised for a wrong row.

    A row is wrong where it cannot be trained on, or where its prompt holds a prompt of
    LongBench-Write or LongWrite-Ruler (unless the recipe says `benchmark_check: false`). Raises
    InputError for a file or data set that cannot be read, and where the benchmarks' files are
    missing.
    """
    for entry in recipe.get("datasets") or []:
        if is_file(entry):
            path = Path(entry["path"])
            if not path.is_file():
                raise InputError(
                    f"cannot read the training data {path}: correct the recipe's `path`"
                )
            inspect = inspector(recipe)
            wrong = [
                (
                    f"line {line.number}",
                    f"is {line.problem}" if line.problem else inspect(line.row)["wrong"],
                )
                for line in scan_jsonl(path)
            ]
        else:
            column = inspected(entry, recipe)[1]
            wrong = [(f"row {number}", why) for number, why in enumerate(column, 1)]
        yield Checked(str(entry["path"]), len(wrong), [each for each in wrong if each[1]])


def require_file(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> int:
    """The number of rows of a JSONL file whose rows are all right.

    Raises InputError that names the first wrong lines, and how many more there are.
    """
    (checked,) = check({**recipe, "datasets": [entry]})
    if not checked.rows:
        raise InputError(f"{checked.path} has no rows: correct the recipe's `path`")
    if checked.wrong:
        more = len(checked.wrong) - _SHOWN
        raise InputError(
            "; ".join(f"{checked.path}, {place} {why}" for place, why in checked.wrong[:_SHOWN])
            + (f"; and {more} more" if more > 0 else "")
            + ": remove or correct them"
        )
    return checked.rows


def inspected(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A data set as axolotl loads it, and for each row what is wrong with it, or ""."""
    dataset = _load(entry)
    column = dataset.map(
        inspector(recipe),
        remove_columns=dataset.column_names,
        num_proc=recipe.get("dataset_num_proc"),
        desc=f"Checking {entry['path']}",
    )["wrong"]
    return dataset, list(column)


def inspector(recipe: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """A function that says under `wrong` what is wrong with a row of the recipe's data, or ""."""
    index = PromptIndex(benchmark_prompts() if recipe.get("benchmark_check") is not False else {})
    return partial(_inspect, dpo=recipe.get("rl") == "dpo", index=index)


def _conversations(row: Mapping[str, Any], dpo: bool) -> list[Any]:
    if not dpo:
        return [row.get("messages")]
    messages, *answers = pair(row)
    return [[*messages, answer] for answer in answers]


def _inspect(row: Mapping[str, Any], dpo: bool, index: PromptIndex) -> dict[str, str]:
    if wrong := problem(row, dpo):
        return {"wrong": wrong}
    for message in _conversations(row, dpo)[0]:
        if message["role"] != "assistant" and (found := index.find(message["content"], None)):
            same = "holds" if found.kind == "exact" else f"is {found.similarity:.0%} like"
            return {"wrong": f"{same} the evaluation prompt {found.prompt_id}"}
    return {"wrong": ""}


def _load(entry: Mapping[str, Any]) -> Any:
    """A data set as axolotl itself loads it."""
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    try:
        dataset = load_dataset_with_config(DictDefault(dict(entry)), None)
    except Exception as error:
        raise InputError(
            f"cannot load the training data {entry['path']} ({str(error).splitlines()[0]}): it is "
            "neither a file or folder here nor a data set that the hub gives to you"
        ) from error
    return dataset["train"] if isinstance(dataset, Mapping) else dataset
