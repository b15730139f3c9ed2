"""Cleaning, measured on the labelled replies; scripts/measure_cleaning.py."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_cleaning.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_cleaning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nearly_all_junk_is_removed_exactly_and_no_prose_is_changed(script: ModuleType) -> None:
    counts = script.measure_labelled(script.LABELLED)
    assert sum(total for _, total in counts.values()) > 250
    for (_, kind, _), (exact, total) in counts.items():
        assert exact >= (0.95 if kind == "junk" else 1) * total


def test_the_script_counts_changed_sections_of_a_folder(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines = [f"On day {day} the tide came in over the flats again.\n" for day in range(200)]
    (tmp_path / "novel.txt").write_text("".join(lines) + "(12 words)\n")
    (tmp_path / "replies.jsonl").write_text('{"raw": "Sure!\\n\\nThe tide came in."}\n')
    options = ["--texts", str(tmp_path), "--goal", "0.5"]
    monkeypatch.setattr(sys, "argv", ["measure_cleaning", *options])
    assert script.main() == 1
    assert "| . | 7 | meta_talk 1, word_count 1 |" in capsys.readouterr().out
