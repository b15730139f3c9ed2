"""The recipes that come with this package: find, show, copy and check them.

Finding and copying needs neither torch nor axolotl.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from longwriter_core.errors import InputError

PREFIX = "recipes/"  # how recipes name their own files, from the folder that axolotl is started in
_FILE = re.compile(rf"\b{PREFIX}[\w./-]+\.(?:jinja|jsonl?|yaml)")
# The GPUs that recipes are written for, for axolotl's own checks on a machine that has none.
_GPUS = {"bf16": True, "fp8": True, "tf32": True, "compute_capability": "sm_90"}


def folder() -> Path:
    """Where the recipes are: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "recipes"
    return installed if installed.is_dir() else here.parent / "recipes"


def names() -> list[str]:
    """Every recipe's name: its path without the ending, such as glm4-9b/sft."""
    return sorted(
        path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.yaml")
    )


def read(name: str) -> str:
    """The text of a recipe. Raises InputError where there is none of that name."""
    plain = name.removeprefix(PREFIX).removesuffix(".yaml")
    if plain not in names():
        near = get_close_matches(plain, names(), 1) or ["longwriter recipes ls"]
        raise InputError(f"there is no recipe {name}: did you mean {near[0]}?")
    return (folder() / f"{plain}.yaml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """What a recipe does: the first line of its header."""
    return read(name).partition("\n")[0].removeprefix("#").strip()


def copy(name: str, destination: Path) -> list[Path]:
    """Copy a recipe, and the files that it names, below `destination`; returns what is there now.

    Paths inside the copies begin with `destination` instead of recipes/, so that they work from the
    folder of the call. Raises InputError rather than write over a file that differs, and where
    `destination` is no folder.
    """
    if destination.exists() and not destination.is_dir():
        raise InputError(f"{destination} is a file: name a folder to copy to")
    text = read(name)
    settings = "\n".join(line.partition("  #")[0] for line in text.splitlines() if line[:1] != "#")
    plain = name.removeprefix(PREFIX).removesuffix(".yaml")
    texts = {f"{plain}.yaml": text}
    for inside in [
        "README.md",
        "LOSS.md",
        *(name.removeprefix(PREFIX) for name in _FILE.findall(settings)),
    ]:
        texts[inside] = (folder() / inside).read_text(encoding="utf-8")
    copies = {
        destination / inside: text.replace(PREFIX, f"{destination.as_posix()}/")
        if inside.endswith(".yaml")
        else text
        for inside, text in texts.items()
    }
    for path, text in copies.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(f"{path} exists and differs: remove it, or name another folder")
    for path, text in copies.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(copies)


def load(path: Path) -> dict[str, Any]:
    """A recipe's settings. Raises InputError where the file is missing or not a recipe."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path} is not a recipe: it has no settings")
    return recipe


def refusals(path: Path) -> Iterator[str]:
    """Why axolotl could not train this recipe as it stands: unknown keys, files, its own checks.

    Raises InputError where it is no recipe at all, or axolotl is not installed.
    """
    recipe = load(path)
    try:
        from axolotl.integrations.base import PluginManager
        from axolotl.utils.config import prepare_plugins, validate_config
        from axolotl.utils.dict import DictDefault
        from pydantic import ValidationError

        from longwriter_train.checks.keys import unknown_keys, unread_keys
    except ImportError as error:
        raise InputError(f'{error}: pip install "longwriter[train]"') from error
    try:
        unknown = unknown_keys(recipe)
    except InputError as error:
        yield str(error)
        return
    for key in unknown:
        yield f"axolotl does not know {key}"
    for key, ending in {"chat_template_jinja": ".jinja", "deepspeed": ".json"}.items():
        value = recipe.get(key)  # a template, or settings, may also stand in the recipe itself
        if isinstance(value, str) and value.endswith(ending) and not Path(value).is_file():
            yield f"{key}: {value} does not exist, seen from here"
    datasets = recipe.get("datasets") or []
    if not isinstance(datasets, list) or not all(isinstance(each, dict) for each in datasets):
        yield "datasets is not a list of entries with `path` and `type`"
        return
    for key in unread_keys(recipe):
        if key not in unknown:
            yield f"longwriter_train does not read {key}: remove it"
    for number, entry in enumerate(datasets, 1):
        if not entry.get("path"):
            yield f"datasets: entry {number} has no `path`"
    if not unknown:
        import torch

        version = {"torch_version": torch.__version__.partition("+")[0]}
        gpus = {**_GPUS, "n_gpu": 8 if recipe.get("deepspeed") else 1}
        settings = DictDefault(recipe)
        PluginManager.get_instance().plugins.clear()  # of a recipe checked before
        prepare_plugins(settings)
        try:
            validate_config(settings, capabilities=gpus, env_capabilities=version)
        except ValidationError as error:
            for each in error.errors():
                place = ".".join(map(str, each["loc"]))
                why = " ".join(each["msg"].removeprefix("Value error, ").split())
                yield f"{place}: {why}" if place else why
        except ValueError as error:
            yield " ".join(str(error).split())


def report(path: Path) -> str:
    """What `longwriter recipes check` prints: the verdict, then what was checked.

    Raises InputError where the recipe or its data cannot be trained.
    """
    from longwriter_train.checks.data import check, is_file, require_file

    if problems := list(refusals(path)):
        raise InputError(f"{path} cannot be trained: " + "; ".join(problems))
    recipe = load(path)
    lines = [f"{path} is ready to train: axolotl accepts every key and value"]
    for entry in recipe.get("datasets") or []:
        if is_file(entry):
            lines.append(f"{entry['path']}: {require_file(entry, recipe)} rows, all valid")
            continue
        (data,) = check({**recipe, "datasets": [entry]})
        lines.append(f"{data.path}: {data.rows} rows, {len(data.wrong)} of them will be skipped")
        lines += [f"  {place} {why}" for place, why in data.wrong]
    if recipe.get("benchmark_check") is False:
        lines.append(
            "not checked, because of benchmark_check: false: benchmark prompts in the data"
        )
    return "\n".join(lines)
