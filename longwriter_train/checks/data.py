"""Find invalid training data before a model is loaded.

Reading data sets that are not JSONL files needs axolotl.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from longwriter_core.conversation import UnusableRowError, training_conversations
from longwriter_core.errors import InputError
from longwriter_core.jsonl import scan_jsonl
from longwriter_core.overlap import PromptIndex, benchmark_prompts
from longwriter_train.rewards.prompts import max_words_of, prompt_row

MAX_SHOWN = 5  # problems in one message
JSONL_SUFFIXES = (".jsonl", ".json")


@dataclass(frozen=True)
class Checked:
    """The result of checking one data set of a recipe."""

    path: str
    rows: int
    wrong: list[tuple[str, str]]  # a row's place, such as "line 3", and what is wrong with it


def is_file(entry: Mapping[str, Any]) -> bool:
    """Return whether a recipe's data set is a local JSONL file, which its user can correct."""
    path = str(entry["path"])
    return Path(path).suffix in JSONL_SUFFIXES and "://" not in path


def check(recipe: Mapping[str, Any]) -> Iterator[Checked]:
    """Check every row of every data set of a recipe, and report invalid rows without raising.

    A row is invalid if it cannot be trained on, or if its prompt contains a prompt of
    LongBench-Write or LongWrite-Ruler (unless the recipe says `benchmark_check: false`). Raises
    InputError for a file or data set that cannot be read, and if the benchmarks' files are
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
        yield Checked(str(entry["path"]), len(wrong), [(place, why) for place, why in wrong if why])


def require_file(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> int:
    """Return the number of rows of a JSONL file, all of which must be valid.

    Raises InputError if the file is empty or has invalid rows. The message names the first
    invalid lines and counts the others.
    """
    (checked,) = check({**recipe, "datasets": [entry]})
    if not checked.rows:
        raise InputError(f"{checked.path} has no rows: correct the recipe's `path`")
    if checked.wrong:
        more = len(checked.wrong) - MAX_SHOWN
        raise InputError(
            "; ".join(f"{checked.path}, {place} {why}" for place, why in checked.wrong[:MAX_SHOWN])
            + (f"; and {more} more" if more > 0 else "")
            + ": remove or correct them"
        )
    return checked.rows


def inspected(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return a data set as axolotl loads it, and for each row the reason it is invalid, or ""."""
    dataset = _load(entry)
    column = dataset.map(
        inspector(recipe),
        remove_columns=dataset.column_names,
        num_proc=recipe.get("dataset_num_proc"),
        desc=f"Checking {entry['path']}",
    )["wrong"]
    return dataset, list(column)


def inspector(recipe: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """Return a function that maps a row to `{"wrong": reason}`, with "" for a valid row."""
    index = PromptIndex(benchmark_prompts() if recipe.get("benchmark_check") is not False else {})
    if recipe.get("rl") == "grpo":
        max_words = max_words_of(recipe)
        return partial(_inspect, read=lambda row: prompt_row(row, max_words)["prompt"], index=index)
    dpo = recipe.get("rl") == "dpo"
    return partial(_inspect, read=lambda row: training_conversations(row, dpo)[0], index=index)


def _inspect(
    row: Mapping[str, Any], read: Callable[[Any], list[Any]], index: PromptIndex
) -> dict[str, str]:
    try:
        messages = read(row)
    except UnusableRowError as error:
        return {"wrong": str(error)}
    for message in messages:
        if message["role"] != "assistant" and (match := index.find(message["content"], None)):
            share = f"{match.similarity:.0%}"
            how = {"exact": "holds", "near": f"is {share} like", "part": f"holds {share} of"}
            return {"wrong": f"{how[match.kind]} the evaluation prompt {match.prompt_id}"}
    return {"wrong": ""}


def _load(entry: Mapping[str, Any]) -> Any:
    """Return a data set as axolotl loads it."""
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    try:
        dataset = load_dataset_with_config(DictDefault(dict(entry)), None)
    except Exception as error:
        raise InputError(
            f"cannot load the training data {entry['path']} ({str(error).splitlines()[0]}): it is "
            "neither a local file or folder nor a data set on the hub that you have access to"
        ) from error
    return dataset["train"] if isinstance(dataset, Mapping) else dataset
