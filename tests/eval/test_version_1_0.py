"""Archives of version 1.0 of the tasks are verified by the rules of that version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.submissions import Json, repacked, submitted, unpacked

from longwriter_eval.cli.main import main
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.verification import verify

# 120 responses that version 0.1.0 of this package packed: some end on a table, a list or "2.", and
# 4 have no verdict
VERSION_1_0 = Path(__file__).parents[1] / "data" / "submission-1.0.zip"


@pytest.mark.usefixtures("upstream")
def test_an_archive_of_version_1_0_is_verified_by_its_rules() -> None:
    found = verify(read(VERSION_1_0))
    assert found.problems == []
    # by version 1.0, S̄ is over the judged responses alone
    (row,) = [row for row in found.rows if row.kind == "all"]
    judged = [score for score in found.scores if score.overall_score is not None]
    assert len(judged) == 116
    mean = sum(score.overall_score or 0 for score in judged) / 116
    assert row.metrics["overall_score"].mean == pytest.approx(mean)
    # endings that version 1.1 counts as cut off, and 1.0 did not
    claimed = {sample["id"]: sample["cut_off"] for sample in found.submission.samples}
    assert [s for s in found.scores if s.diagnostics.cut_off and not claimed[s.sample.id]]


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        pytest.param(lambda s: s["verdicts"][0].update(
            raw=json.dumps(dict.fromkeys(DIMENSIONS.values(), 4)) + s["verdicts"][0]["raw"]
        ), "", id="objects-that-disagree-were-read"),
        pytest.param(lambda s: s.update(cut_off=False), "cut_off: claimed False", id="cut-off"),
        pytest.param(lambda s: s["verdicts"][0].update(
            raw=json.dumps(dict.fromkeys(DIMENSIONS.values(), 4))
        ), "scores of verdict 0", id="other-reply"),
    ],
)  # fmt: skip
def test_tampering_with_an_archive_of_version_1_0_is_found(
    tmp_path: Path, tamper: Callable[[Json], None], problem: str
) -> None:
    manifest, samples = unpacked(VERSION_1_0)
    tamper(next(s for s in samples if s["response"].endswith("and then the")))
    path = tmp_path / "older.zip"
    path.write_bytes(repacked(manifest, samples))
    problems = verify(read(path)).problems
    assert problems == [] if not problem else any(problem in found for found in problems)


@pytest.mark.usefixtures("upstream")
def test_archives_of_version_1_0_are_ranked_apart(tmp_path: Path) -> None:
    shutil.copy(VERSION_1_0, tmp_path / "older.zip")
    submitted(tmp_path, "newer", benchmark="longbench_write")
    assert main(["leaderboard", str(tmp_path), "-o", str(tmp_path / "site")]) == 0
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    ranked = {r["task_version"]: [e["file"] for e in r["entries"]] for r in data["rankings"]}
    assert ranked == {1.0: ["older.zip"], 1.1: ["newer.zip"]}
