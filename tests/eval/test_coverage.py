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


def _rows() -> list[list[str]]:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    table = page.partition("## Coverage, measured")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and "%" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_documentation_has_a_row_for_every_interval_and_size() -> None:
    expected = [[case.interval, case.population, str(case.n)] for case in script.cases()]
    assert [row[:3] for row in _rows()] == expected


def test_scores_shares_and_differences_have_their_nominal_coverage_in_the_documentation() -> None:
    rows = [row for row in _rows() if row[0] != "number"]
    assert min(float(row[3].rstrip("%")) for row in rows) >= 93


@pytest.mark.parametrize(
    "case", list(script.cases()), ids=lambda c: f"{c.interval}, {c.population}, {c.n}"
)
def test_intervals_have_their_documented_coverage(case: object) -> None:
    # of 120 intervals with coverage 94%, fewer than 103 contain the truth once in a thousand times
    share, _ = script.coverage(case, 120)
    assert share >= (0.8 if getattr(case, "interval", "") == "number" else 103 / 120)


@pytest.mark.slow
@pytest.mark.parametrize(
    "population", ["ruler, 8 instructions × 6 lengths", "12 prompts, skewed S_l"]
)
def test_compare_claims_at_most_5_percent_between_equal_models(population: str) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    claims = importlib.import_module("measure_claims").claims
    sys.path.remove(str(ROOT / "scripts"))
    share, contradictions = claims(population, 200)
    assert share <= 0.1  # probability 0.001 above it, if the rate is 5%
    assert contradictions == 0
