"""What importing costs, and what it must not touch."""

import ast
import subprocess
import sys

HEAVY = (
    "torch", "transformers", "lm_eval", "datasets", "openai", "aiohttp", "numpy", "scipy", "ray",
)  # fmt: skip


def _loaded_by(module: str) -> list[str]:
    """Which heavy packages a fresh interpreter has loaded after importing `module`."""
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return list(ast.literal_eval(ended.stdout.decode()))


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert _loaded_by("longwriter_eval") == []


def test_the_command_loads_nothing_heavy_before_it_knows_what_to_do() -> None:
    assert _loaded_by("longwriter_eval.cli") == []


def test_agentwrites_command_loads_nothing_heavy_before_it_knows_what_to_do() -> None:
    assert _loaded_by("agentwrite") == []
    assert _loaded_by("agentwrite.cli") == []


def test_writing_needs_neither_lm_eval_nor_torch() -> None:
    heavy = {"torch", "transformers", "lm_eval", "datasets"}
    assert not heavy.intersection(_loaded_by("agentwrite.batch.run"))


def test_judging_needs_neither_lm_eval_nor_torch() -> None:
    heavy = {"torch", "transformers", "lm_eval", "datasets"}
    assert not heavy.intersection(_loaded_by("longwriter_eval.judge"))
