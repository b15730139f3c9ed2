"""What longwriter_train exports, and what importing it loads."""

import pkgutil
import subprocess
import sys

import pytest

import longwriter_train


def _python(code: str) -> None:
    """Run code in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_package_exports_the_names_that_recipes_use() -> None:
    assert longwriter_train.__all__ == ["LossPlugin", "preference", "prompts"]
    with pytest.raises(AttributeError, match="LosPlugin"):
        _ = longwriter_train.LosPlugin


def test_the_commands_import_neither_torch_nor_axolotl() -> None:
    _python(
        "import longwriter_train, longwriter_train.cli, longwriter_train.recipes, sys;"
        "heavy = {'torch', 'transformers', 'axolotl', 'trl', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy"
    )


def _light_modules() -> list[str]:
    """Return the modules that must work without axolotl: all but the axolotl plugins."""
    names = {
        module.name
        for module in pkgutil.walk_packages(longwriter_train.__path__, "longwriter_train.")
    }
    plugins = {"longwriter_train.loss.plugin", "longwriter_train.checks.plugin"}
    assert plugins | {"longwriter_train.dpo", "longwriter_train.loss.trainer"} < names
    return sorted(names - plugins)


@pytest.mark.slow
def test_the_loss_and_dpo_import_with_only_torch_and_transformers() -> None:
    pytest.importorskip("torch")
    _python(
        f"""
import importlib.util, sys

ABSENT = {{"axolotl", "trl", "peft", "accelerate", "deepspeed", "liger_kernel"}}
find_spec = importlib.util.find_spec  # which transformers asks what is installed
importlib.util.find_spec = lambda name, *more: None if name in ABSENT else find_spec(name, *more)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for name in {_light_modules()}:
    importlib.import_module(name)
from longwriter_train import dpo
try:
    dpo.ChunkedDPOTrainer
except ModuleNotFoundError as error:
    assert error.name.startswith("axolotl")
else:
    raise AssertionError("ChunkedDPOTrainer needs axolotl")
"""
    )
