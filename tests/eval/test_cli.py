"""The `longwriter` command: exit codes, one-line errors for bad input, and resuming."""

import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.commands import KEY, command, environment, lm_eval_arguments, load_run, run
from support.endpoint import Endpoint, completion, verdict
from support.judging import JUDGE_ENVIRONMENT, JUDGE_OPTIONS, failing

from longwriter_core import benchmarks
from longwriter_core.mock_server.server import JUDGE, WRITER, Faults, MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.scoring import METRICS, score_samples, value
from longwriter_eval.stats.score_table import score_table

RESULTS = "results_2026-01-02T03-04-05.678901.json"
SAMPLES = RESULTS.replace("results_", "samples_t_").replace(".json", ".jsonl")


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


def test_a_closed_output_pipe_is_not_an_error() -> None:
    piped = f"{shlex.join(command('longwriter', 'assets'))} | true"
    ended = subprocess.run(
        ["bash", "-c", piped], env=environment(), capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.usefixtures("upstream")
def test_assets_accepts_the_official_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets"]) == 0
    assert capsys.readouterr().out.count("ok ") == 6


@pytest.mark.usefixtures("upstream")
def test_assets_needs_only_the_files_of_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("longbench_write.jsonl", "longbench_write_en.jsonl", "longwrite_ruler.jsonl",
                 "judge.txt"):  # fmt: skip
        (tmp_path / name).write_bytes(benchmarks.location(name).read_bytes())
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    assert main(["assets"]) == 0
    assert "missing     plan.txt" in (printed := capsys.readouterr().out)
    assert "All that evaluation needs is here" in printed
    (tmp_path / "plan.txt").write_text("other", encoding="utf-8")
    assert main(["assets"]) == 1  # a wrong file is always an error
    (tmp_path / "plan.txt").unlink()
    (tmp_path / "judge.txt").unlink()
    assert main(["assets"]) == 1


def test_fetching_without_a_network_is_a_one_line_error(
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
        pytest.param({}, "holds no results", id="empty-folder"),
        pytest.param({RESULTS: "{"}, "not JSON", id="broken-results"),
        pytest.param({RESULTS: "[]"}, "not a results file", id="other-json"),
        pytest.param(
            {RESULTS: '{"configs": {"ifeval": {}}}'},
            "none of the 1",
            id="other-task",
        ),
        pytest.param(
            {RESULTS: '{"configs": {"longwrite_demo": {"metadata": {"longwriter": {}}}}}'},
            "--log_samples",
            id="no-samples",
        ),
        pytest.param(
            {RESULTS: '{"configs": {"t": {"metadata": {"longwriter": true}}}}'},
            "malformed",
            id="malformed-record",
        ),
        pytest.param(
            {RESULTS: '{"configs": {"t": {"metadata": {"longwriter": {"judge": "gpt"}}}}}'},
            "malformed (judge is 'gpt')",
            id="malformed-judge",
        ),
        pytest.param(
            {
                RESULTS: '{"configs": {"t": {"metadata": {"longwriter": {}}}}}',
                SAMPLES: '{"doc": {}}\n',
            },
            "line 1",
            id="malformed-sample",
        ),
        pytest.param(
            {
                RESULTS: '{"configs": {"t": {"metadata": {"longwriter": {}}}}}',
                SAMPLES: '{"doc": \n',
            },
            "line 1: not JSON",
            id="cut-sample",
        ),
    ],
)
def test_a_run_that_cannot_be_scored_is_a_one_line_error(
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
def test_demo_requires_both_endpoint_and_model(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BASE_URL", raising=False)
    monkeypatch.delenv("MODEL", raising=False)
    assert main(["demo", *given]) == 2
    assert "go together" in one_line(capsys.readouterr().err)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("longwriter 0.")


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr().err
    assert "recipes" in printed  # a subcommand from another package
    assert "error" not in printed


@pytest.mark.slow
def test_the_demo_needs_nothing_and_says_that_its_scores_mean_nothing(tmp_path: Path) -> None:
    ended = run("longwriter", "demo", "--output", str(tmp_path / "demo"), LONGWRITER_ASSETS="")
    assert ended.code == 0, ended.out
    assert ended.out.count("scores mean nothing") == 1
    report = tmp_path / "demo" / "report.html"
    assert f"wrote {report}" in ended.out
    page = report.read_text(encoding="utf-8")
    for text in (WRITER, JUDGE, "12 of 12 (100.0%)", "longwrite_demo/011"):
        assert text in page
    assert len(load_run(tmp_path / "demo").samples) == 12


@pytest.mark.slow
def test_the_demo_uses_the_given_models(tmp_path: Path) -> None:
    with MockServer(api_key=KEY) as server:
        ended = run(
            "longwriter", "demo", "--output", str(tmp_path),
            BASE_URL=server.base_url, MODEL="mock-writer", OPENAI_API_KEY=KEY,
            LONGWRITER_JUDGE_BASE_URL=server.base_url,
            **{**JUDGE_ENVIRONMENT, "LONGWRITER_JUDGE_MODEL": "my-judge"},
        )  # fmt: skip
        assert ended.code == 0, ended.out
        assert server.stats().calls == {"mock-writer": 12, "my-judge": 13}
    assert "mean nothing" not in ended.out
    assert "my-judge" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with MockServer() as server:
        ended = run(
            "quick_lm_eval",
            *lm_eval_arguments(
                server, server, folder / "out", "longwrite_demo"
            ),
            LONGWRITER_CACHE=str(folder / "cache"),
        )  # fmt: skip
        assert ended.code == 0, ended.out
    return folder / "out"


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Path:
    """A copy of a run of longwrite_demo, without its cache."""
    return Path(shutil.copytree(once, tmp_path / "finished"))


def test_scoring_on_another_machine_reuses_verdicts_from_the_log(finished: Path) -> None:
    before = load_run(finished)
    # the judge's server is gone: a single call would fail
    ended = run("longwriter", "score", str(finished))
    assert ended.code == 0, ended.out
    after = load_run(finished)
    assert after.folder == before.folder
    assert after.results["results"] == before.results["results"]
    for old, new in zip(before.samples, after.samples, strict=True):
        assert new.row["resps"] == old.row["resps"]
        assert new.row["arguments"] == old.row["arguments"]
        assert new.row["quality_score"] == old.row["quality_score"]


def test_recomputed_scores_equal_those_that_lm_eval_logged(finished: Path) -> None:
    found = load_run(finished)
    scores = score_samples(found.samples)
    logged = {sample.id: sample.row for sample in found.samples}
    assert len(scores) == 12
    for score in scores:
        row = logged[score.sample.id]
        assert {metric: value(score, metric) for metric in METRICS} == pytest.approx(
            {metric: row[metric] for metric in METRICS}
        )
    results = found.results["results"]["longwrite_demo"]
    means = {metric: each.mean for metric, each in score_table(scores)[0].metrics.items()}
    assert means == pytest.approx({metric: results[f"{metric},none"] for metric in METRICS})


def test_an_edited_response_is_judged_again(finished: Path) -> None:
    found = load_run(finished)
    rows = [sample.row for sample in found.samples]
    rows[3]["resps"] = [["Another text."]]
    newest = max(found.folder.glob("samples_*"))
    lines = [json.dumps(row) + "\n" for row in rows]
    newest.write_text("".join(lines), encoding="utf-8")
    recorded = found.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    port = int(recorded["base_url"].rpartition(":")[2].removesuffix("/v1"))
    with MockServer(port) as judge:  # the same endpoint as before, so that the log counts
        ended = run("longwriter", "score", str(finished))
        assert ended.code == 0, ended.out
        assert judge.stats().calls == {JUDGE: 1 + 1}
    assert load_run(finished).samples[3].row["output_words"] == 2


@pytest.mark.slow
def test_another_judge_judges_again_and_keeps_the_old_results(finished: Path) -> None:
    found = load_run(finished)
    old = {path.name for path in found.folder.iterdir()}
    with MockServer() as judge:
        ended = run(
            "longwriter", "score", str(finished), "--judge-base-url", judge.base_url,
            *JUDGE_OPTIONS, "--judge-model", "second-judge", "--judge-repeats", "2",
        )  # fmt: skip
        assert ended.code == 0, ended.out
        assert judge.stats().calls == {"second-judge": 1 + 24}
    assert old < {path.name for path in found.folder.iterdir()}
    protocol = "temperature none, max_tokens 4096"
    second, first_judge = (f"{name} ({protocol})" for name in ("second-judge", JUDGE))
    assert f"agreement of 2 repeats of {second} over 12 responses" in ended.out
    assert f"agreement of {second} and {first_judge} over 12 responses" in ended.out
    after = load_run(finished)
    settings = after.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    assert (settings["model"], settings["repeats"]) == ("second-judge", 2)
    assert (
        after.results["config"] == found.results["config"]
    )  # the evaluated model is still recorded
    # back to the first judge, whose server is gone: its verdicts are in the older results
    first = found.record("longwrite_demo")["judge"]
    ended = run(
        "longwriter", "score", str(finished), "--judge-repeats", "1",
        *JUDGE_OPTIONS, "--judge-base-url", first["base_url"],
        LONGWRITER_CACHE=str(finished / "another-cache"),
    )  # fmt: skip
    assert ended.code == 0, ended.out
    assert load_run(finished).results["results"] == found.results["results"]


def test_ctrl_c_while_scoring_prints_the_command_that_resumes(
    finished: Path, tmp_path: Path
) -> None:
    with MockServer(delay=1.0) as judge:
        arguments = ["score", str(finished), "--judge-base-url", judge.base_url]
        arguments += ["--judge-repeats", "2"]  # the log has the first repeat
        process = subprocess.Popen(
            command("longwriter", *arguments, "--judge-concurrency", "2"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while len(list((tmp_path / "cache").glob("calls/*/*.json"))) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1, printed
    assert f"longwriter score {finished}" in printed


def test_a_sample_log_with_missing_lines_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_run(finished)
    newest = max(found.folder.glob("samples_*"))
    newest.write_text(newest.read_text(encoding="utf-8").partition("\n")[0], encoding="utf-8")
    assert main(["score", str(finished)]) == 2
    assert "its 1 samples are not the ones" in one_line(capsys.readouterr().err)


def test_an_empty_variable_does_not_change_the_judge(finished: Path) -> None:
    empty = {f"LONGWRITER_JUDGE_{name}": "" for name in ("MODEL", "BASE_URL", "PROMPT", "REPEATS")}
    ended = run("longwriter", "score", str(finished), **empty)
    assert ended.code == 0, ended.out
    settings = load_run(finished).results["configs"]["longwrite_demo"]["metadata"]["longwriter"]
    assert settings["judge"]["model"] == JUDGE


@pytest.mark.slow
def test_an_output_file_is_found_and_so_is_a_prompt_file(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("Grade <Text>$RESPONSE$</Text> for $INST$", encoding="utf-8")
    with MockServer(on_request=failing("broken_json")) as server:
        arguments = lm_eval_arguments(server, server, tmp_path / "x.json", "longwrite_demo")
        given = json.loads(arguments.pop()) | {"judge_prompt": str(prompt)}
        ended = run("quick_lm_eval", *arguments, json.dumps(given), "--limit", "2")
        assert ended.code == 0, ended.out
    (line,) = [line for line in ended.out.splitlines() if "longwriter score" in line]
    command = shlex.split(line[line.index("longwriter score") :])
    assert command[2:] == [str(tmp_path), "--judge-prompt", str(prompt)]
    port = int(server.base_url.rpartition(":")[2].removesuffix("/v1"))
    with MockServer(port) as recovered:
        without_prompt = run(*command[:3])
        assert without_prompt.code == 2
        assert "mine.txt: name that file, or another prompt, by --judge-prompt" in (
            without_prompt.out
        )
        assert run(*command).code == 0
        assert recovered.stats().calls == {JUDGE: 1 + 2}
    assert load_run(tmp_path).path.name.startswith("results_")


def test_missing_repeats_are_missing_verdicts(finished: Path) -> None:
    # so many calls fail that five attempts are not enough for every verdict
    with MockServer(faults=Faults(0.9, ("refusal",))) as judge:
        ended = run(
            "longwriter", "score", str(finished), "--judge-base-url", judge.base_url,
            "--judge-repeats", "2",
        )  # fmt: skip
    verdicts = [v for s in load_run(finished).samples for v in (s.judgement or {})["verdicts"]]
    missing = sum(not verdict["scores"] for verdict in verdicts)
    assert len(verdicts) == 24
    assert 0 < missing < 24
    assert ended.code == 1
    assert f"{missing} of 24 verdicts are missing (refused {missing})" in ended.out


def test_a_newer_run_of_other_tasks_in_the_folder_is_ignored(finished: Path) -> None:
    found = load_run(finished)
    other = {"configs": {"ifeval": {"metadata": {"version": 4}}}}
    (found.folder / "results_2999-01-01T00-00-00.000000.json").write_text(json.dumps(other))
    assert load_run(finished).results["results"].keys() == {"longwrite_demo"}


@pytest.mark.slow
@pytest.mark.parametrize("who", ["writer", "judge"])
def test_lone_surrogates_and_an_echoed_key_do_not_break_the_log(tmp_path: Path, who: str) -> None:
    spoilt = f"A text {chr(0xD800)} that names {KEY}."
    written = spoilt.replace(KEY, "no key") if who == "writer" else "A text."
    read = verdict(3).replace("Read.", spoilt) if who == "judge" else verdict(3)
    with (
        Endpoint(answers=[(200, completion(written))]) as writer,
        Endpoint(answers=[(200, completion(read))]) as judge,
    ):
        ended = run(
            "quick_lm_eval", *lm_eval_arguments(writer, judge, tmp_path / "out", "longwrite_demo"),
            OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
    assert ended.code == 0, ended.out
    found = load_run(tmp_path / "out")
    assert len(found.samples) == 12
    assert all(sample.row["judge_coverage"] for sample in found.samples)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if KEY.encode() in path.read_bytes()]


def test_report_reads_a_real_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(finished)]) == 0
    assert f"wrote {finished / 'report.html'}" in capsys.readouterr().out
    page = (finished / "report.html").read_text(encoding="utf-8")
    for said in (WRITER, JUDGE, "12 of 12 (100.0%)", "temperature=0.5", "longwrite_demo/000"):
        assert said in page
