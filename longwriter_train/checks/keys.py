"""Keys of a recipe that axolotl does not know. It drops them silently; here they are named."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel

from longwriter_core.errors import InputError

# Of a data set, what says where its rows are. The rest is for axolotl's own strategies.
_READ = {
    "data_files", "ds_type", "name", "path", "preprocess_shards", "revision", "shards",
    "shards_idx", "split", "trust_remote_code", "type",
}  # fmt: skip


def unknown_keys(recipe: Mapping[str, Any]) -> list[str]:
    """The keys that neither axolotl nor a plugin of the recipe reads, with what was likely meant.

    Nested ones as `datasets.0.path`. The recipe's plugins are loaded for it. Raises InputError
    where one of them cannot be, and ImportError where axolotl is not installed.
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
    """The keys that axolotl knows, but longwriter_train.chat and .preference do not read."""
    unread, ours = [], False
    for number, entry in enumerate(recipe.get("datasets") or []):
        if isinstance(entry, Mapping) and str(entry.get("type")).startswith("longwriter_train."):
            ours = True
            unread += [f"datasets.{number}.{key}" for key in entry if key not in _READ]
    if ours and recipe.get("train_on_inputs"):
        unread.append("train_on_inputs")
    return unread


def _unknown(given: Mapping[str, Any], schemas: list[type[BaseModel]], above: str) -> Iterator[str]:
    fields = {name: kind for schema in schemas for name, kind in _fields(schema).items()}
    for key, value in given.items():
        if key not in fields:
            near = get_close_matches(str(key), fields, 1)
            yield f"{above}{key}" + (f" (did you mean {near[0]}?)" if near else "")
            continue
        inner = list(_schemas(fields[key]))
        if key == "datasets":  # of several kinds; which one, the recipe's stage says
            wanted = "DPODataset" if given.get("rl") == "dpo" else "SFTDataset"
            inner = [schema for schema in inner if schema.__name__ == wanted]
        entries = value if isinstance(value, list) else [value]
        for number, entry in enumerate(entries):
            if inner and isinstance(entry, Mapping):
                place = f"{above}{key}." + (f"{number}." if isinstance(value, list) else "")
                yield from _unknown(entry, inner, place)


def _fields(schema: type[BaseModel]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias or field.alias]
        for each in (name, *names):
            if isinstance(each, str):
                found[each] = field.annotation
    return found


def _schemas(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside a type, such as list[A | B] | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, list) or hasattr(annotation, "__metadata__"):
        for inner in get_args(annotation):
            yield from _schemas(inner)
