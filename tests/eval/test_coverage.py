"""The coverage table in docs/statistics.md: its rows, and a quick check of each value."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "measure_coverage", ROOT / "scripts" / "measure_coverage.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_coverage"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _script()
KEPT = [
    case
    for case in script.cases()
    if case.n == 48 or case.interval != "mean" or "S_q" in case.population
]


def test_the_documentation_has_a_row_for_every_interval_and_size() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "%" in line]
    assert len(rows) == len(list(script.cases()))
    for case in script.cases():
        assert any(
            row.startswith(f"| {case.interval} | {case.population} | {case.n} |") for row in rows
        )


@pytest.mark.parametrize("case", KEPT, ids=lambda c: f"{c.interval}, {c.population}, {c.n}")
def test_intervals_have_their_documented_coverage(case: object) -> None:
    # of 120 intervals with coverage 95%, fewer than 106 contain the truth once in a thousand times
    assert script.coverage(case, 120) >= 105 / 120
