"""The public Python API of agentwrite, and what importing it loads."""

import subprocess
import sys

import pytest

import agentwrite

EXPORTS = [
    "GeneralSet",
    "PairOptions",
    "Settings",
    "SftLimits",
    "WriteError",
    "dpo",
    "run",
    "select",
    "sft",
    "write_text",
]
HEAVY = ("openai", "aiohttp", "torch", "transformers", "lm_eval", "datasets", "numpy", "ray",
         "pydantic")  # fmt: skip


def test_the_package_exports_exactly_these_names() -> None:
    assert agentwrite.__all__ == EXPORTS
    assert set(EXPORTS) <= set(dir(agentwrite))


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_documented_and_named_like_itself(name: str) -> None:
    export = getattr(agentwrite, name)
    assert export.__name__ == name
    assert export.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'write_texts'"):
        _ = agentwrite.write_texts


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, agentwrite; print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout.decode().strip() == "[]"
