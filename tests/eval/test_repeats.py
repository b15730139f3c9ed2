"""Tasks with `repeats`: every response is scored, and prompts are the independent units."""

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import lm_eval_arguments, run

from longwriter_core.mock_server import MockReply, MockRequest
from longwriter_core.mock_server.server import JUDGE, MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.runs import load_run
from longwriter_eval.scoring import score_samples, value
from longwriter_eval.stats.score_table import score_table

pytestmark = pytest.mark.slow

REPEATS, PROMPTS = 3, 4
DEMO = Path(__file__).parents[2] / "harness_tasks" / "longwrite_demo" / "longwrite_demo.yaml"


@pytest.fixture(scope="module")
def judge() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(scope="module")
def output(judge: MockServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run with three responses to each of four prompts prints, and its folder."""
    folder = tmp_path_factory.mktemp("repeats")
    text = DEMO.read_text(encoding="utf-8").replace("task: longwrite_demo", "task: thrice")
    text = text.replace("!function utils.DemoTask", "!function utils.DemoTask\nrepeats: 3")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "thrice.yaml").write_text(text, encoding="utf-8")
    (folder / "tasks" / "utils.py").write_text(
        (DEMO.parent / "utils.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    lengths = iter(range(100, 10_000, 37))

    def write(_: MockRequest) -> MockReply:
        return MockReply(text="word " * next(lengths) + "end.")

    with MockServer(on_request=write) as writer:
        arguments = lm_eval_arguments(writer, judge, folder / "out", "thrice", "--limit", "4")
        arguments += ["--include_path", str(folder / "tasks")]
        ended = run("quick_lm_eval", *arguments, LONGWRITER_CACHE=str(folder / "cache"))
    assert ended.code == 0, ended.out
    return ended.out, folder


def test_every_response_is_judged_and_scored(output: tuple[str, Path], judge: MockServer) -> None:
    run = load_run(output[1] / "out")
    first, second, third, other = [sample.id for sample in run.samples[:4]]
    assert (second, third) == (f"{first}#2", f"{first}#3")
    assert "#" not in first + other
    assert judge.stats().calls[JUDGE] == 1 + REPEATS * PROMPTS
    scores = score_samples(run.samples)
    assert len(scores) == REPEATS * PROMPTS
    assert all(score.status == "judged" for score in scores)
    assert len({score.words for score in scores}) == REPEATS * PROMPTS


def test_the_table_has_the_mean_over_prompts_its_error_and_the_spread(
    output: tuple[str, Path],
) -> None:
    run = load_run(output[1] / "out")
    row, scores = run.results["results"]["thrice"], score_samples(run.samples)
    for metric in ("length_score", "quality_score", "overall_score", "output_words"):
        by_prompt = [
            [float(value(score, metric)) for score in scores if score.sample.prompt_id == id]
            for id in sorted({score.sample.prompt_id for score in scores})
        ]
        means = [statistics.fmean(own) for own in by_prompt]
        assert row[f"{metric},none"] == pytest.approx(statistics.fmean(means))
        error = statistics.stdev(means) / math.sqrt(PROMPTS)
        assert row[f"{metric}_stderr,none"] == pytest.approx(error)
        if metric != "output_words":
            deviations = [statistics.stdev(own) for own in by_prompt]
            expected = statistics.fmean(deviations)
            assert row[f"{metric}_spread,none"] == pytest.approx(expected)
    (table, *_) = score_table(scores)
    assert table.metrics["length_score"].mean == pytest.approx(row["length_score,none"])
    spread = row["length_score_spread,none"]
    assert (
        f"responses to a prompt: S̄ {row['overall_score_spread,none']:.1f}, S_l {spread:.1f}"
        in (output[0])
    )


def test_score_computes_the_same_from_the_log_and_from_the_kept_responses(
    output: tuple[str, Path], judge: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = output[1]
    monkeypatch.setenv("LONGWRITER_CACHE", str(folder / "cache"))
    before = load_run(folder / "out").results["results"]["thrice"]
    calls = judge.stats().calls[JUDGE]
    (kept,) = (folder / "cache" / "responses").iterdir()
    for place in (kept, folder / "out"):
        assert main(["score", str(place)]) == 0
        after = load_run(place).results["results"]["thrice"]
        numbers = {name: x for name, x in before.items() if "," in name}
        assert {name: after[name] for name in numbers} == pytest.approx(numbers)
    assert judge.stats().calls[JUDGE] <= calls + 1


def test_report_and_compare_read_such_runs_and_submit_says_why_not(
    output: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = output[1] / "out"
    page = tmp_path / "report.html"
    assert main(["report", str(folder), "-o", str(page), "--no-figure-files"]) == 0
    assert "3; mean standard deviation: S̄ " in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["compare", str(folder), str(folder), "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert {each["difference"]["n"] for each in differences if each["bucket"] == "all"} == {
        REPEATS * PROMPTS
    }
    assert main(["submit", str(folder), "-o", str(tmp_path / "s.zip")]) == 2
    assert "3 responses to each prompt, and a submission holds one" in capsys.readouterr().err
