"""`longwriter recipes`: list, show, copy and check the training recipes."""

import os
from pathlib import Path
from typing import Annotated

import typer

from longwriter_core.command import new_app

app = new_app("List, show, copy and check the training recipes.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a recipe, such as glm4-9b/sft")]


@app.command()
def ls() -> None:
    """List the recipes and what each one does."""
    from longwriter_train import recipes

    names = recipes.names()
    for name in names:
        print(f"{name:<{max(map(len, names))}}  {recipes.title(name)}")


@app.command()
def show(name: Name) -> None:
    """Print a recipe."""
    from longwriter_train import recipes

    print(recipes.read(name), end="")


@app.command()
def cp(
    name: Name,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="folder to copy to")] = Path(
        "recipes"
    ),
) -> None:
    """Copy a recipe and the files that it refers to.

    The first recipe copied to DEST is also written to DEST/sft.yml, DEST/dpo.yml or DEST/grpo.yml,
    which is the file that `axolotl train DEST/` trains.
    """
    from longwriter_train import recipes

    for path in recipes.copy(name, destination):
        print(f"wrote {path}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the recipe's YAML file")],
) -> None:
    """Check a recipe's settings and data. Needs axolotl, but no GPU."""
    os.environ.setdefault(
        "AXOLOTL_LOG_LEVEL", "ERROR"
    )  # axolotl logs a lot even for a valid recipe
    from longwriter_train.checks.recipe import report

    print(report(file))


@app.command()
def fit(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="a recipe's name, or its YAML file")
    ],
    gpus: Annotated[int, typer.Option(min=1, help="number of GPUs")] = 1,
    memory: Annotated[float, typer.Option(min=1, help="memory of each GPU in GiB")] = 80,
) -> None:
    """Say whether a recipe fits in the memory of these GPUs, by arithmetic.

    Exits with 1 where it does not fit. Needs neither a GPU nor the model's weights.
    """
    from longwriter_train import memory as arithmetic
    from longwriter_train import recipes

    settings = recipes.settings(recipe)
    estimate = arithmetic.estimate(settings, arithmetic.shape_of(settings), gpus)
    print(arithmetic.table(estimate, gpus, memory * arithmetic.GIB))
    if not estimate.fits(memory * arithmetic.GIB):
        raise typer.Exit(1)


@app.command()
def tiny(
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="folder to create the models in")
    ] = Path("runs"),
) -> None:
    """Create the tiny models that the recipes in recipes/tiny train."""
    from longwriter_core.errors import InputError
    from longwriter_train import tiny_models

    for name, make in tiny_models.MAKERS.items():
        try:
            print(f"wrote {make(destination / name)}")
        except ImportError as error:
            raise InputError(f'{error}: pip install "longwriter[train]"') from error
