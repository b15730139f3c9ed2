"""Find, read and copy the recipes that come with this package.

The checks are in `longwriter_train.checks.recipe`.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from longwriter_core.errors import InputError

PREFIX = "recipes/"  # prefix of paths in recipes, which are relative to the working directory
_FILE = re.compile(rf"\b{PREFIX}[\w./-]+\.(?:jinja|jsonl?|yaml)")


def folder() -> Path:
    """Return the folder of the recipes: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def names() -> list[str]:
    """Return the names of all recipes: paths without the ending, such as glm4-9b/sft."""
    return sorted(
        path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.yaml")
    )


def read(name: str) -> str:
    """Return the text of a recipe. Raises InputError for an unknown name."""
    plain = _plain(name)
    if plain not in names():
        near = get_close_matches(plain, names(), 1) or ["longwriter recipes ls"]
        raise InputError(f"there is no recipe {name}: did you mean {near[0]}?")
    return (folder() / f"{plain}.yaml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """Return what a recipe does: the first line of its header."""
    return title_of(read(name))


def title_of(text: str) -> str:
    """Return the first line of a recipe's header."""
    return text.partition("\n")[0].removeprefix("#").strip()


def for_directory(name: str) -> tuple[str, str]:
    """Return the file name and text of the copy that `axolotl train recipes/` trains.

    `axolotl train DIRECTORY` trains the only YAML file at the top of the directory. If there are
    several, it asks on every rank which one to train. It ignores subdirectories.
    """
    plain = _plain(name)
    stage = re.search("sft|dpo|grpo", plain.rpartition("/")[2])
    file = f"{stage[0] if stage else 'sft'}.yml"
    path = f"{PREFIX}{plain}.yaml"
    text = read(name).replace(f"axolotl train {path}\n", f"axolotl train {PREFIX}\n", 1)
    return file, text.replace(path, f"{PREFIX}{file}")


def copy(name: str, destination: Path) -> list[Path]:
    """Copy a recipe and the files that it names to `destination`. Return the paths of the copies.

    Paths inside the copies begin with `destination` instead of recipes/, so that they work from the
    current directory. If `destination` has no YAML file at its top yet, the recipe is also written
    there, for `axolotl train DESTINATION`. Raises InputError if a copy would overwrite a file with
    different contents, or if `destination` is not a folder.
    """
    if destination.exists() and not destination.is_dir():
        raise InputError(f"{destination} is a file: name a folder to copy to")
    text = read(name)
    settings = "\n".join(line.partition("  #")[0] for line in text.splitlines() if line[:1] != "#")
    texts = {f"{_plain(name)}.yaml": text}
    for inside in ("README.md", "LOSS.md", *_FILE.findall(settings)):
        inside = inside.removeprefix(PREFIX)
        texts[inside] = (folder() / inside).read_text(encoding="utf-8")
    if not [*destination.glob("*.yml"), *destination.glob("*.yaml")]:
        file, of_directory = for_directory(name)
        texts[file] = of_directory
    copies = {
        destination / inside: text.replace(PREFIX, f"{destination.as_posix()}/")
        if inside.endswith((".yaml", ".yml"))
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


def _plain(name: str) -> str:
    return name.removeprefix(PREFIX).removesuffix(".yaml")


def settings(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, given as a YAML file or as the name of a bundled recipe.

    Raises InputError if it is neither.
    """
    if Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        return load(Path(name))
    recipe: dict[str, Any] = yaml.safe_load(read(name))
    return recipe


def load(path: Path) -> dict[str, Any]:
    """Return a recipe's settings. Raises InputError if the file is missing or not a recipe."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path} is not a recipe: it has no settings")
    return recipe
