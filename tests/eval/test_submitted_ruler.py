"""The ruler as a submission: no judge, its length score and longest output are recomputed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import lm_eval_arguments, run
from support.submissions import RULER, Json, log, repacked, submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_core.mock_server.server import MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.runs import load_run
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata, licence, parameters
from longwriter_eval.submission.verification import verify

pytestmark = pytest.mark.usefixtures("upstream")


@pytest.fixture(scope="module")
def ruler(tmp_path_factory: pytest.TempPathFactory, upstream: Path) -> Path:  # noqa: ARG001
    return submitted(tmp_path_factory.mktemp("ruler"), benchmark=RULER)


def test_the_ruler_is_submitted_without_a_judge_and_verified(ruler: Path) -> None:
    manifest, samples = unpacked(ruler)
    assert manifest["judge"] is None
    assert all(sample["verdicts"] == [] for sample in samples)
    found = verify(read(ruler))
    assert found.problems == []
    (everything,) = [row for row in manifest["scores"] if row["kind"] == "all"]
    assert set(everything["metrics"]) == {"length_score", "output_words", "max_output_words"}
    longest = max(sample["words"] for sample in samples)
    assert everything["metrics"]["max_output_words"] == {
        "mean": longest, "low": None, "high": None, "n": 48,
    }  # fmt: skip
    assert [row["name"] for row in manifest["scores"] if row["kind"] == "bucket"] == [
        "1k", "2k", "5k", "10k", "20k", "30k",
    ]  # fmt: skip


def _verdict(_: Json, samples: list[Json]) -> None:
    samples[0]["verdicts"] = [
        {"judge": 0, "repeat": 0, "asked_sha256": "0" * 64, "raw": "", "scores": None,
         "reason": "refused", "model": None, "asks": 1, "retries": 0, "prompt_tokens": None,
         "completion_tokens": None, "defused": False}
    ]  # fmt: skip


def _row(**values: Any) -> Callable[[Json, list[Json]], None]:
    return lambda manifest, _: manifest["scores"][0]["metrics"]["max_output_words"].update(values)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        pytest.param(_row(mean=90_000), "max_output_words, mean: claimed 90000", id="longest"),
        pytest.param(_row(low=1.0), "max_output_words, low", id="interval"),
        pytest.param(lambda _, s: s[0].update(words=9), "words: claimed 9", id="words"),
        pytest.param(lambda _, s: s.pop(), "47 of 48 prompts", id="incomplete"),
        pytest.param(_verdict, "a verdict is by judge 0 of 0", id="a-verdict"),
        pytest.param(
            lambda m, _: m.update(tasks=["longbench_write_en"]),
            "longbench_write_en are not tasks of longwrite_ruler", id="other-task",
        ),
        pytest.param(
            lambda m, _: m.update(task_version=1.0), "version 1 of longwrite_ruler", id="older",
        ),
    ],
)  # fmt: skip
def test_a_forged_ruler_is_refused(
    ruler: Path, tmp_path: Path, tamper: Callable[[Json, list[Json]], None], said: str
) -> None:
    manifest, samples = unpacked(ruler)
    tamper(manifest, samples)
    path = tmp_path / "forged.zip"
    path.write_bytes(repacked(manifest, samples))
    try:
        problems = verify(read(path)).problems
    except InputError as error:
        problems = [str(error)]
    assert any(said in problem for problem in problems), problems


def test_a_judge_of_the_ruler_is_refused(ruler: Path, tmp_path: Path) -> None:
    other, judged = unpacked(submitted(tmp_path))
    manifest, samples = unpacked(ruler)
    path = tmp_path / "judged.zip"
    path.write_bytes(repacked({**manifest, "judge": other["judge"]}, samples))
    with pytest.raises(InputError, match="line 1: verdicts: there are none"):
        read(path)
    unjudged = [{**sample, "verdicts": []} for sample in judged]
    path.write_bytes(repacked({**other, "judge": None}, unjudged))
    assert "longwrite_demo is judged" in verify(read(path)).problems


def test_the_benchmark_to_submit_can_be_chosen(tmp_path: Path) -> None:
    made = log(benchmark=RULER).load(tmp_path / "runs", log())
    assert build_submission(made, StatedMetadata()).manifest["benchmark"] == "longwrite_demo"
    assert build_submission(made, StatedMetadata(), RULER).manifest["benchmark"] == RULER
    with pytest.raises(InputError, match="no judged responses of longbench_write: judge"):
        build_submission(made, StatedMetadata(), "longbench_write")
    with pytest.raises(InputError, match="--benchmark ifeval: choose from longbench_write"):
        build_submission(made, StatedMetadata(), "ifeval")


@pytest.mark.parametrize(
    ("text", "number"),
    [("9.4B", 9_400_000_000), ("350m", 350_000_000), ("9400000000", 9_400_000_000), ("1T", 10**12)],
)
def test_a_size_is_read(text: str, number: int) -> None:
    assert parameters(text) == number


@pytest.mark.parametrize("text", ["9,4B", "B", "", "-1", "0", "nine", "9.4 GB", "1e9999", "99999T"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--parameters"):
        parameters(text)


def test_a_licence_is_an_identifier() -> None:
    assert licence(" Apache-2.0 ") == "apache-2.0"
    for text in ("see below", "", "a" * 61, "<b>", "mit\nx"):
        with pytest.raises(InputError, match="--licence"):
            licence(text)


@pytest.mark.slow
def test_a_real_ruler_run_is_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MockServer() as server:
        ended = run("lm_eval", *lm_eval_arguments(server, server, tmp_path / "run", RULER))
    assert ended.code == 0, ended.out
    path = tmp_path / "ruler.zip"
    assert main(["submit", str(tmp_path / "run"), "-o", str(path), "--parameters", "9.4B"]) == 0
    assert main(["verify", str(path)]) == 0
    printed = capsys.readouterr().out
    longest = load_run(tmp_path / "run").results["groups"][RULER]["max_output_words,none"]
    assert f"longest output: {longest:,.0f} words" in printed
    assert "this benchmark has no judge" in printed
    assert main(["verify", str(path), "--rejudge", "10"]) == 2
    assert "this benchmark has no judge" in capsys.readouterr().err


def test_the_board_shows_the_ruler_with_size_and_licence(ruler: Path, tmp_path: Path) -> None:
    folder, site = tmp_path / "in", tmp_path / "site"
    folder.mkdir()
    manifest, samples = unpacked(ruler)
    manifest["model"]["parameters"] = {"value": 9_400_000_000, "source": "submitter"}
    manifest["model"]["licence"] = {"value": "apache-2.0", "source": "submitter"}
    manifest["stated"] = {"cost_usd": 2.0, "minutes": 60}
    (folder / "ruler.zip").write_bytes(repacked(manifest, samples))
    assert main(["leaderboard", str(folder), "-o", str(site)]) == 0
    (ranking,) = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))["rankings"]
    (entry,) = ranking["entries"]
    words = sum(sample["words"] for sample in samples)
    assert (ranking["benchmark"], ranking["judge"]) == (RULER, "no judge")
    assert entry["stated"] == {
        "cost_usd": 2.0, "minutes": 60, "words_per_usd": words / 2, "words_per_minute": words / 60,
    }  # fmt: skip
    rows = list(csv.DictReader((site / "leaderboard.csv").read_text("utf-8").splitlines()))
    assert (rows[0]["parameters"], rows[0]["licence"]) == ("9400000000", "apache-2.0")
    longest = max(sample["words"] for sample in samples)
    assert float(rows[0]["max_output_words"]) == longest
    assert f"up to {longest:,} words" in next(site.rglob("badge.svg")).read_text(encoding="utf-8")
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "LongWrite-Ruler</h3>" in page
    assert f">{longest:,}</td>" in page
