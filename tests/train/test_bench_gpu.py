"""scripts/bench_gpu.py runs on a CPU without axolotl, as a rehearsal of a bare GPU machine."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("liger_kernel", reason="needs the train extra")

pytestmark = pytest.mark.axolotl

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_gpu.py"
# Runs the script with axolotl, trl, peft and deepspeed made unimportable.
WITHOUT_AXOLOTL = """
import importlib.util, runpy, sys

ABSENT = {"axolotl", "trl", "peft", "deepspeed", "flash_attn"}
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ABSENT else find_spec(name, *more)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
module = runpy.run_path(sys.argv[1])
module["SHAPES"]["glm"].update(eval(sys.argv[2]))
sys.argv = ["bench_gpu.py", "--rehearse", "--steps", "1", *sys.argv[3:]]
sys.exit(module["main"]())
"""


def _rehearse(*arguments: str, glm: str = "{}") -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_AXOLOTL, str(SCRIPT), glm, *arguments],
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert "TFLOP/s" in done.stdout, done.stderr[-3000:]
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("| ")]


@pytest.mark.slow
def test_each_model_is_measured_with_both_losses(tmp_path: Path) -> None:
    code, (_, _, *rows) = _rehearse("--output", str(tmp_path / "table.md"))
    assert code == 0, rows
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[:3] for row in cells] == [
        [model, loss, "sdpa"]
        for model in ("llama", "glm")
        for loss in ("axolotl's average", "LossPlugin, token")
    ]
    assert all(float(row[3].replace(",", "")) > 0 for row in cells)
    written = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert [line for line in written.splitlines() if line in rows] == rows


@pytest.mark.slow
def test_a_failed_model_gets_a_row_and_the_other_is_still_measured() -> None:
    code, (_, _, *rows) = _rehearse(glm='{"hidden_act": "none"}')
    assert code == 1
    assert [row.split(" | ")[0] for row in rows] == ["| llama", "| llama", "| glm"]
    assert rows[-1].startswith("| glm | failed: ")
