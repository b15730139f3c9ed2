"""The diagnostics' precision and recall on the labelled texts; scripts/measure_diagnostics.py."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "measure_diagnostics.py"
LABELLED = ROOT / "tests" / "data" / "diagnostics"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_the_unseen_half_reaches_90_percent_precision_and_recall() -> None:
    done = run("--goal", "0.9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| unseen |") == 2 * 4  # languages and diagnostics


def test_the_labelled_set_has_300_different_texts_per_language() -> None:
    rows = [
        json.loads(line)
        for path in sorted(LABELLED.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    languages = Counter(row["language"] for row in rows)
    assert set(languages) == {"en", "zh"}
    assert min(languages.values()) >= 300
    assert len({(row["text"], row.get("prompt"), row["language"]) for row in rows}) == len(rows)


def test_missing_the_goal_on_user_texts_exits_with_1(tmp_path: Path) -> None:
    row = {"text": "It was", "language": "en", "kind": "x", "labels": ["refusal", "cut_off"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row), encoding="utf-8")
    done = run("--texts", str(tmp_path), "--goal", "0.9")
    assert done.returncode == 1
    assert "| cut_off | en | mine | 1 | 1 | 1.00 | 1.00 |" in done.stdout


def test_a_folder_without_labelled_texts_is_named(tmp_path: Path) -> None:
    done = run("--texts", str(tmp_path))
    assert done.returncode == 1
    assert f"no labelled texts (*.jsonl) in {tmp_path}" in done.stderr
