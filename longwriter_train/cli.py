"""`longwriter recipes`: the training recipes, handed out."""

import argparse
import os
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "recipes",
        help="list, show, copy and check the training recipes",
        description="The axolotl recipes for LongWriter-8B, LongWriter-9B and their DPO.",
    )
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("ls", help="the recipes' names, and what each does")
    listing.set_defaults(run=_ls)

    show = actions.add_parser("show", help="print a recipe")
    show.add_argument("name", metavar="NAME", help="such as glm4-9b/sft")
    show.set_defaults(run=_show)

    copy = actions.add_parser("cp", help="copy a recipe with the files that it names")
    copy.add_argument("name", metavar="NAME", help="such as glm4-9b/sft")
    copy.add_argument(
        "destination", metavar="DEST", nargs="?", type=Path, default=Path("recipes"),
        help="folder to copy to; default: recipes",
    )  # fmt: skip
    copy.set_defaults(run=_cp)

    check = actions.add_parser(
        "check", help="find out what is wrong with a recipe and its data, without a GPU"
    )
    check.add_argument("file", metavar="FILE", type=Path, help="the recipe's YAML file")
    check.set_defaults(run=_check)

    tiny = actions.add_parser("tiny", help="make the tiny models that recipes/tiny trains")
    tiny.add_argument(
        "destination", metavar="DEST", nargs="?", type=Path, default=Path("runs"),
        help="folder to make them in; default: runs",
    )  # fmt: skip
    tiny.set_defaults(run=_tiny)


def _ls(options: argparse.Namespace) -> int:  # noqa: ARG001
    from longwriter_train import recipes

    names = recipes.names()
    for name in names:
        print(f"{name:<{max(map(len, names))}}  {recipes.title(name)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from longwriter_train import recipes

    print(recipes.read(options.name), end="")
    return 0


def _cp(options: argparse.Namespace) -> int:
    from longwriter_train import recipes

    for path in recipes.copy(options.name, options.destination):
        print(f"wrote {path}")
    return 0


def _check(options: argparse.Namespace) -> int:
    os.environ.setdefault("AXOLOTL_LOG_LEVEL", "ERROR")  # it says much about a recipe that is fine
    from longwriter_core.errors import InputError
    from longwriter_train import recipes
    from longwriter_train.checks.data import check, is_file, require_file

    if refusals := list(recipes.refusals(options.file)):
        raise InputError(f"{options.file}: " + "; ".join(refusals))
    print(f"{options.file}: axolotl knows every key and accepts the settings")
    recipe = recipes.load(options.file)
    for entry in recipe.get("datasets") or []:
        if is_file(entry):
            print(f"{entry['path']}: {require_file(entry, recipe)} rows, all fit for training")
            continue
        (data,) = check({**recipe, "datasets": [entry]})
        print(f"{data.path}: {data.rows} rows, of which {len(data.wrong)} will be left out")
        for place, why in data.wrong:
            print(f"  {place} {why}")
    if recipe.get("benchmark_check") is False:
        print("not looked for, by benchmark_check: false: benchmark prompts in the data")
    return 0


def _tiny(options: argparse.Namespace) -> int:
    from longwriter_core.errors import InputError
    from longwriter_train import tiny_models

    makers = {"tiny-llama": tiny_models.make_tiny_llama, "tiny-glm": tiny_models.make_tiny_glm}
    for name, make in makers.items():
        try:
            print(f"wrote {make(options.destination / name)}")
        except ImportError as error:
            raise InputError(f'{error}: pip install "longwriter[train]"') from error
    return 0
