"""Packing sequences of LongWriter-like lengths fills the packs and drops no sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.axolotl_runs import run_script

pytest.importorskip("axolotl")

pytestmark = pytest.mark.axolotl

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_packing.py"


@pytest.mark.slow
def test_packs_are_98_percent_full_and_contain_every_sequence(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    run_script(
        SCRIPT, "--no-training", "--sequences", "6000", "--ranks", "2", "--output", str(table)
    )
    text = table.read_text()
    print(text)  # shown by pytest -s
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "%" in line]
    full = {row[0]: float(row[2].rstrip("%")) for row in rows}
    lost = {row[0]: int(row[3].replace(",", "")) for row in rows}
    assert full["LossPlugin"] >= 98
    assert lost["LossPlugin"] == 0
    assert full["upstream"] < full["LossPlugin"]
    assert lost["upstream"] > 0
