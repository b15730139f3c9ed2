"""Run `axolotl train` for several recipes in one process, because most of its time is start-up."""

import sys
from collections.abc import Sequence


def main(files: Sequence[str]) -> None:
    from axolotl.cli.train import do_cli
    from axolotl.integrations.base import PluginManager

    recipes, sys.argv = list(files), sys.argv[:1]  # axolotl reads the command line as well
    for recipe in recipes:
        PluginManager.get_instance().plugins.clear()  # else they stay registered
        do_cli(recipe)


if __name__ == "__main__":
    main(sys.argv[1:])
