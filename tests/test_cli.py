"""The `longwriter` command: exit codes, one clear line for bad input, and nothing lost."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs import KEY, command, environment, lm_eval_arguments, load_run, run

from longwriter_eval.cli import main
from longwriter_eval.standin import JUDGE, StandIn


def one_line(printed: str) -> str:
    (line,) = printed.strip().splitlines()
    assert line.startswith("longwriter: error: ")
    return line


def test_assets_shows_the_state_of_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    (tmp_path / "judge.txt").write_text("not the judge's prompt", encoding="utf-8")
    assert main(["assets"]) == 1
    printed = capsys.readouterr().out
    assert "wrong hash  judge.txt" in printed
    assert "missing     longbench_write.jsonl" in printed
    assert "longwriter assets --fetch" in printed


@pytest.mark.usefixtures("upstream")
def test_assets_is_content_with_the_official_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets"]) == 0
    assert capsys.readouterr().out.count("ok ") == 6


def test_fetching_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert main(["assets", "--fetch"]) == 2
    assert "cannot download" in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "there is no such folder", id="no-folder"),
        pytest.param({}, "no results_", id="empty-folder"),
        pytest.param({"results_x.json": "{"}, "not JSON", id="broken-results"),
        pytest.param({"results_x.json": "[]"}, "not a results file", id="other-json"),
        pytest.param({"results_x.json": '{"configs": {"ifeval": {}}}'}, "no task", id="other-task"),
        pytest.param(
            {"results_x.json": '{"configs": {"longwrite_demo": {"metadata": {"longwriter": {}}}}}'},
            "--log_samples",
            id="no-samples",
        ),
        pytest.param(
            {
                "results_x.json": '{"configs": {"t": {"metadata": {"longwriter": {}}}}}',
                "samples_t_x.jsonl": '{"doc": {}}\n',
            },
            "line 1",
            id="malformed-sample",
        ),
        pytest.param(
            {
                "results_x.json": '{"configs": {"t": {"metadata": {"longwriter": {}}}}}',
                "samples_t_x.jsonl": '{"doc": \n',
            },
            "line 1: not JSON",
            id="cut-sample",
        ),
    ],
)
def test_a_run_that_cannot_be_scored_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: dict[str, str] | None,
    says: str,
) -> None:
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
    for name, text in (content or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    assert main(["score", str(folder)]) == 2
    line = one_line(capsys.readouterr().err)
    assert says in line
    assert str(folder) in line


@pytest.mark.parametrize("given", [["--base-url", "http://x/v1"], ["--model", "x"]])
def test_demo_takes_endpoint_and_model_together(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BASE_URL", raising=False)
    monkeypatch.delenv("MODEL", raising=False)
    assert main(["demo", *given]) == 2
    assert "go together" in one_line(capsys.readouterr().err)


def test_the_demo_needs_nothing_and_says_that_its_scores_mean_nothing(tmp_path: Path) -> None:
    ended = run("longwriter", "demo", "--output", str(tmp_path / "demo"), LONGWRITER_ASSETS="")
    assert ended.code == 0, ended.out
    assert ended.out.count("scores mean nothing") == 1
    report = tmp_path / "demo" / "report.md"
    assert f"wrote {report}" in ended.out
    text = report.read_text(encoding="utf-8")
    assert "these scores mean nothing" in text
    assert text.count("| judged |") == 12
    assert len(load_run(tmp_path / "demo").samples) == 12


def test_the_demo_uses_the_models_that_it_is_given(tmp_path: Path) -> None:
    with StandIn(api_key=KEY) as server:
        ended = run(
            "longwriter", "demo", "--output", str(tmp_path),
            BASE_URL=server.base_url, MODEL="stand-in-writer", OPENAI_API_KEY=KEY,
            LONGWRITER_JUDGE_BASE_URL=server.base_url, LONGWRITER_JUDGE_MODEL="my-judge",
        )  # fmt: skip
        assert ended.code == 0, ended.out
        assert server.stats().calls == {"stand-in-writer": 12, "my-judge": 13}
    assert "mean nothing" not in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of longwrite_demo, and the cache that it filled, which a colleague does not have."""
    folder = tmp_path_factory.mktemp("run")
    with StandIn() as server:
        ended = run(
            "lm_eval", *lm_eval_arguments(server, server, folder / "out", "longwrite_demo"),
            LONGWRITER_CACHE=str(folder / "cache"),
        )  # fmt: skip
        assert ended.code == 0, ended.out
    return folder / "out"


def test_score_on_another_machine_pays_for_no_verdict_in_the_log(
    finished: Path, tmp_path: Path
) -> None:
    before = load_run(finished)
    # the judge's server is gone: a single call would fail
    ended = run("longwriter", "score", str(finished), LONGWRITER_CACHE=str(tmp_path))
    assert ended.code == 0, ended.out
    after = load_run(finished)
    assert after.folder == before.folder
    assert after.results["results"] == before.results["results"]
    for old, new in zip(before.samples, after.samples, strict=True):
        assert new.row["resps"] == old.row["resps"]
        assert new.row["arguments"] == old.row["arguments"]
        assert new.row["quality_score"] == old.row["quality_score"]


def test_an_edited_response_is_judged_anew(finished: Path, tmp_path: Path) -> None:
    found = load_run(finished)
    rows = [sample.row for sample in found.samples]
    rows[3]["resps"] = [["Another text."]]
    for path in found.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    newest = max(tmp_path.glob("samples_*"))
    lines = [json.dumps(row) + "\n" for row in rows]
    newest.write_text("".join(lines), encoding="utf-8")
    recorded = found.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    port = int(recorded["base_url"].rpartition(":")[2].removesuffix("/v1"))
    with StandIn(port) as judge:  # the same endpoint as before, so that the log counts
        ended = run("longwriter", "score", str(tmp_path), LONGWRITER_CACHE=str(tmp_path / "cache"))
        assert ended.code == 0, ended.out
        assert judge.stats().calls == {JUDGE: 1 + 1}
    assert load_run(tmp_path).samples[3].row["output_words"] == 2


def test_another_judge_judges_anew_beside_the_old_results(finished: Path, tmp_path: Path) -> None:
    found = load_run(finished)
    for path in found.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    old = {path.name for path in tmp_path.iterdir()}
    with StandIn() as judge:
        ended = run(
            "longwriter", "score", str(tmp_path), "--judge-base-url", judge.base_url,
            "--judge-model", "second-judge", "--judge-repeats", "2",
            LONGWRITER_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
        assert ended.code == 0, ended.out
        assert judge.stats().calls == {"second-judge": 1 + 24}
    assert old < {path.name for path in tmp_path.iterdir()}
    after = load_run(tmp_path)
    settings = after.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    assert (settings["model"], settings["repeats"]) == ("second-judge", 2)
    assert after.results["config"] == found.results["config"]  # the writer is still on record


def test_ctrl_c_while_scoring_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    with StandIn(delay=1.0) as judge:
        arguments = ["score", str(finished), "--judge-base-url", judge.base_url]
        process = subprocess.Popen(
            command("longwriter", *arguments, "--judge-concurrency", "2"),
            env=environment(LONGWRITER_CACHE=str(tmp_path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while len(list(tmp_path.glob("calls/*/*.json"))) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1, printed
    assert f"longwriter score {finished}" in printed
