"""Bridged scores in `longwriter compare` and on the leaderboard: marked, untested, unranked."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.logs import Answer, Log, answers
from support.submissions import submitted

from longwriter_core.errors import InputError
from longwriter_eval.bridge import Bridge, JudgeIdentity
from longwriter_eval.calibration import JudgedByBoth, calibrate
from longwriter_eval.cli.main import main
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import PAPERS_PROTOCOL
from longwriter_eval.leaderboard.site import build

PROMPT = "p" * 64


def bridge(source: str = "judge-a", target: str = "judge-b", prompt: str = PROMPT) -> Bridge:
    """25 points more on the scale of the target, fitted on scores from 0 to 75."""
    link = calibrate([JudgedByBoth(f"{i}", i * 0.75, 25 + i * 0.75) for i in range(101)])
    a, b = (JudgeIdentity(name, PAPERS_PROTOCOL, prompt) for name in (source, target))
    return Bridge(a, b, link)


def a_run(folder: Path, judge: str, grade: int = 3) -> Path:
    return Log(answers(12, lambda i: Answer(f"Text {i}.", (grade,))), judge=judge).write(folder)


def compare(
    tmp_path: Path, judges: tuple[str, str] = ("judge-a", "judge-b"), grade: int = 3
) -> tuple[int, Path]:
    saved = tmp_path / "link.json"
    bridge().save(saved)
    runs = [str(a_run(tmp_path / side, j, grade)) for side, j in zip("ab", judges, strict=True)]
    return main(["compare", *runs, "--bridge", str(saved)]), saved


def test_a_saved_bridge_is_the_same_bridge(tmp_path: Path) -> None:
    bridge().save(tmp_path / "link.json")
    assert Bridge.load(tmp_path / "link.json") == bridge()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"judges": []}', "[" * 100_000, '{"judges": {"from": 1, "to": 2}}', "\xff"],
    ids=["empty", "list", "object", "no-judges", "deep", "numbers", "binary"],
)
def test_a_file_that_is_no_link_is_a_one_line_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "link.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="is not a link of this version") as found:
        Bridge.load(path)
    assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="cannot read"):
        Bridge.load(tmp_path / "missing.json")


@pytest.mark.parametrize("judges", [("judge-a", "judge-b"), ("judge-b", "judge-a")])
def test_compare_shows_the_bridged_score_beside_the_original(
    tmp_path: Path, judges: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, judges)[0] == 0
    printed = capsys.readouterr().out
    converted, other = ("A", "B") if judges[0] == "judge-a" else ("B", "A")
    assert f"{converted} has 50.0 by judge-a, which is ≈ 75.0 [75.0, 75.0] on the" in printed
    assert f"scale of judge-b; {other} has 50.0 by judge-b" in printed
    assert "length_score" in printed
    assert "quality_score" not in printed  # different scales are not tested
    assert "overall_score" not in printed


def test_compare_refuses_a_score_outside_the_fitted_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, grade=5)[0] == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "outside the range on which the link was fitted (0.0 to 75.0)" in line


@pytest.mark.parametrize("judges", [("judge-a", "judge-x"), ("judge-a", "judge-a")])
def test_compare_refuses_a_link_between_other_judges(
    tmp_path: Path, judges: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, judges)[0] == 2
    assert "the link is from judge-a" in capsys.readouterr().err


def test_a_bridge_does_not_excuse_other_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bridge().save(tmp_path / "link.json")
    a = a_run(tmp_path / "a", "judge-a")
    log = Log(answers(12, lambda i: Answer(f"Text {i}.")), judge="judge-b", data="e" * 64)
    b = log.write(tmp_path / "b")
    assert main(["compare", str(a), str(b), "--bridge", str(tmp_path / "link.json")]) == 2
    assert "not comparable: longwrite_demo: data" in capsys.readouterr().err


# The leaderboard


def site_of(tmp_path: Path, linked: Bridge) -> dict[str, Any]:
    for name, judge in (("first", "gpt-a"), ("second", "gpt-b")):
        submitted(tmp_path / "in", name, judge=judge)
    build(tmp_path / "in", tmp_path / "site", [linked])
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    return {ranking["judge"]: ranking for ranking in data["rankings"]}


@pytest.mark.usefixtures("upstream")
def test_the_leaderboard_lists_bridged_scores_without_a_rank(tmp_path: Path) -> None:
    prompt = JudgePrompt.load("longwriter").sha256
    by_judge = site_of(tmp_path, bridge("gpt-a", "gpt-b", prompt))
    assert by_judge["gpt-a"]["bridged"] == []
    (row,) = by_judge["gpt-b"]["bridged"]
    assert (row["model"], row["judge"]) == ("first", "gpt-a")
    found = row["bridged"]["quality_score"]["mean"]
    assert found == pytest.approx(row["quality_score"] + 25)
    assert [entry["model"]["id"]["value"] for entry in by_judge["gpt-b"]["entries"]] == ["second"]
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert f"≈ {found:.1f}" in page
    assert "is not a verdict and has no rank" in page


@pytest.mark.usefixtures("upstream")
def test_a_link_with_another_prompt_bridges_nothing(tmp_path: Path) -> None:
    by_judge = site_of(tmp_path, bridge("gpt-a", "gpt-b", "0" * 64))
    assert [ranking["bridged"] for ranking in by_judge.values()] == [[], []]
