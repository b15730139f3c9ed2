"""Find mistakes in a recipe before axolotl starts.

axolotl silently drops keys that it does not know. These checks name them. They need axolotl, which
is imported on first use.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel

from longwriter_core.errors import InputError
from longwriter_train.checks.data import check, is_file, require_file
from longwriter_train.recipes import load

# axolotl validates a recipe against GPU capabilities. These are the GPUs the recipes are meant for.
_GPUS = {"bf16": True, "fp8": True, "tf32": True, "compute_capability": "sm_90"}
# The keys of a data set that locate its rows. Only axolotl's own strategies read the other keys.
DATASET_KEYS = {
    "data_files", "ds_type", "name", "path", "preprocess_shards", "revision", "shards",
    "shards_idx", "split", "trust_remote_code", "type",
}  # fmt: skip


def report(path: Path) -> str:
    """Return what `longwriter recipes check` prints: the verdict, then what was checked.

    Raises InputError if the recipe or its data cannot be trained.
    """
    if reasons := list(problems(path)):
        raise InputError(f"{path} cannot be trained: " + "; ".join(reasons))
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


def problems(path: Path) -> Iterator[str]:
    """Yield the reasons why axolotl cannot train this recipe.

    The reasons are unknown keys, missing files and the findings of axolotl's own validation.
    Raises InputError if the file is not a recipe or axolotl is not installed.
    """
    recipe = load(path)
    try:
        unknown = unknown_keys(recipe)
    except ImportError as error:
        raise InputError(f'{error}: pip install "longwriter[train]"') from error
    except InputError as error:
        yield str(error)
        return
    for key in unknown:
        yield f"axolotl does not know {key}"
    for key, ending in {"chat_template_jinja": ".jinja", "deepspeed": ".json"}.items():
        value = recipe.get(key)  # the value may also be the template or the settings themselves
        if isinstance(value, str) and value.endswith(ending) and not Path(value).is_file():
            yield f"{key}: {value} does not exist (paths are relative to the working directory)"
    datasets = recipe.get("datasets") or []
    if not isinstance(datasets, list) or not all(isinstance(entry, dict) for entry in datasets):
        yield "datasets is not a list of entries with `path` and `type`"
        return
    for key in unread_keys(recipe):
        if key not in unknown:
            yield f"longwriter_train does not read {key}: remove it"
    yield from reward_problems(recipe)
    for number, entry in enumerate(datasets, 1):
        if not entry.get("path"):
            yield f"datasets: entry {number} has no `path`"
    if not unknown:
        yield from _axolotl_problems(recipe)


def reward_problems(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a recipe's use of longwriter_train.rewards."""
    package = "longwriter_train.rewards"
    rewards = [f"{package}.{name}" for name in ("form", "length", "quality")]
    used = [str(name) for name in (recipe.get("trl") or {}).get("reward_funcs") or []]
    for name in used:
        if name.startswith("longwriter_train.") and name not in rewards:
            yield f"trl.reward_funcs: there is no {name}: choose from {', '.join(rewards)}"
    if f"{package}.length" in used:
        for entry in recipe.get("datasets") or []:
            if entry.get("type") != "longwriter_train.prompts":
                yield (
                    f"datasets: {entry.get('path')} needs type: longwriter_train.prompts, whose "
                    f"ranges {package}.length reads"
                )
    if f"{package}.quality" in used and recipe.get("trainer_cls") != f"{package}.RewardTrainer":
        yield (
            f"{package}.quality needs trainer_cls: {package}.RewardTrainer, which stops when the "
            "judge cannot be reached"
        )


def _axolotl_problems(recipe: dict[str, Any]) -> Iterator[str]:
    """Yield the problems that axolotl's own validation reports, one line each."""
    import torch
    from axolotl.integrations.base import PluginManager
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault
    from pydantic import ValidationError

    version = {"torch_version": torch.__version__.partition("+")[0]}
    gpus = {**_GPUS, "n_gpu": 8 if recipe.get("deepspeed") else 1}
    settings = DictDefault(recipe)
    PluginManager.get_instance().plugins.clear()  # plugins of a recipe checked earlier
    prepare_plugins(settings)
    try:
        validate_config(settings, capabilities=gpus, env_capabilities=version)
    except ValidationError as error:
        for detail in error.errors():
            place = ".".join(map(str, detail["loc"]))
            why = " ".join(detail["msg"].removeprefix("Value error, ").split())
            yield f"{place}: {why}" if place else why
    except ValueError as error:
        yield " ".join(str(error).split())


def unknown_keys(recipe: Mapping[str, Any]) -> list[str]:
    """Return the keys that neither axolotl nor a plugin of the recipe knows.

    Each comes with the likely spelling. Nested keys are written as `datasets.0.path`. Loads the
    recipe's plugins. Raises InputError if one of them cannot be loaded, and ImportError if axolotl
    is not installed.
    """
    from axolotl.integrations.base import load_plugin
    from axolotl.utils.schemas.config import AxolotlInputConfig

    plugins = recipe.get("plugins") or []
    if not isinstance(plugins, list):
        raise InputError(f"plugins: {plugins} is not a list; write `- {plugins}` on its own line")
    schemas: list[type[BaseModel]] = [AxolotlInputConfig]
    for name in plugins:
        try:
            plugin = load_plugin(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"the plugin {name} cannot be loaded: {error}") from error
        if arguments := plugin.get_input_args():
            module, _, kind = arguments.rpartition(".")
            schemas.append(getattr(__import__(module, fromlist=[kind]), kind))
    return list(_unknown(recipe, schemas, ""))


def unread_keys(recipe: Mapping[str, Any]) -> list[str]:
    """Return the keys that axolotl knows but longwriter_train.chat and .preference ignore."""
    unread, uses_longwriter = [], False
    for number, entry in enumerate(recipe.get("datasets") or []):
        if isinstance(entry, Mapping) and str(entry.get("type")).startswith("longwriter_train."):
            uses_longwriter = True
            unread += [f"datasets.{number}.{key}" for key in entry if key not in DATASET_KEYS]
    if uses_longwriter and recipe.get("train_on_inputs"):
        unread.append("train_on_inputs")
    return unread


def _unknown(
    settings: Mapping[str, Any], schemas: list[type[BaseModel]], prefix: str
) -> Iterator[str]:
    fields = {name: kind for schema in schemas for name, kind in _fields(schema).items()}
    for key, value in settings.items():
        if key not in fields:
            similar = get_close_matches(str(key), fields, 1)
            yield f"{prefix}{key}" + (f" (did you mean {similar[0]}?)" if similar else "")
            continue
        inner = list(_schemas(fields[key]))
        if (
            key == "datasets"
        ):  # the schema allows several kinds; the stage decides which one applies
            kind = "DPODataset" if settings.get("rl") == "dpo" else "SFTDataset"
            inner = [schema for schema in inner if schema.__name__ == kind]
        entries = value if isinstance(value, list) else [value]
        for number, entry in enumerate(entries):
            if inner and isinstance(entry, Mapping):
                place = f"{prefix}{key}." + (f"{number}." if isinstance(value, list) else "")
                yield from _unknown(entry, inner, place)


def _fields(schema: type[BaseModel]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias or field.alias]
        for spelling in (name, *names):
            if isinstance(spelling, str):
                fields[spelling] = field.annotation
    return fields


def _schemas(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the pydantic models inside a type, such as list[A | B] | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, list) or hasattr(annotation, "__metadata__"):
        for inner in get_args(annotation):
            yield from _schemas(inner)
