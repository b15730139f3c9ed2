"""The `agentwrite` command: exit codes, one clear line for bad input, progress, resuming."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.commands import command, environment
from support.model import WRITER, Model

from agentwrite.cli.main import main
from longwriter_core.text.length import count_words

TEA = "Write 2,000 words on tea."


def arguments(server: Model, *more: str) -> list[str]:
    return [*more, "--model", WRITER, "--base-url", server.base_url]


def one_line(printed: str) -> str:
    (line,) = printed.strip().splitlines()
    assert line.startswith("agentwrite: error: ")
    return line


# write


def test_write_shows_each_section_and_writes_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.md"
    with Model() as server:
        assert main(arguments(server, "write", TEA, "-o", str(out))) == 0
    printed = capsys.readouterr()
    words = count_words(out.read_text(encoding="utf-8"))
    assert printed.out == ""
    assert "section   1 of 5" in printed.err
    assert f"{words:,} of 2,000 words" in printed.err
    assert f"wrote {out}: {words:,} words in 5 sections" in printed.err


def test_without_an_output_file_only_the_text_goes_to_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Model() as server:
        assert main(arguments(server, "write", "Write on tea.", "--length", "900")) == 0
    printed = capsys.readouterr()
    assert 600 < count_words(printed.out) < 1300
    assert "section" not in printed.out


def test_a_missing_length_is_reported_and_the_plan_decides(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Model() as server:
        assert main(arguments(server, "write", "Write on tea.")) == 0
    assert capsys.readouterr().err.startswith("No length is named: the plan decides.")


def test_a_failed_text_reports_the_reason_and_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.md"
    with Model(answer=lambda _prompt: "") as server:
        given = arguments(server, "write", TEA, "-o", str(out))
        assert main(given) == 1
    printed = capsys.readouterr().err
    assert "not written: plan: empty (asked 5 times); to resume: agentwrite write" in printed
    assert not out.exists()


def test_the_resume_command_shows_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=lambda _prompt: "") as server:
        url = f"{server.base_url.replace('://', '://me:hunter22@')}?key=hunter33"
        given = ["write", TEA, "--model", WRITER, "--base-url", url]
        assert main([*given, "-o", str(tmp_path / "text.md")]) == 1
    printed = capsys.readouterr().err
    assert f"--base-url 'http://***@127.0.0.1:{server.port}/v1?***'" in printed
    assert "hunter" not in printed


def test_a_dry_run_makes_no_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": TEA}) + '\n{"prompt": "Write."}\n', encoding="utf-8")
    with Model() as server:
        assert main(arguments(server, "write", TEA, "--dry-run")) == 0
        assert (
            main(arguments(server, "run", str(rows), "-o", str(tmp_path / "o"), "--dry-run")) == 0
        )
        assert server.prompts == []
    printed = capsys.readouterr().out
    assert f"would ask {WRITER} at {server.base_url} for 1 texts: about 6 calls" in printed
    assert "1 name no length" in printed
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("given", ["Write 3,000,000 words.", "Write."])
def test_too_many_words_are_rejected(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    length = () if "words" in given else ("--length", "3000000")
    for more in ((), ("--dry-run",)):
        with Model() as server:
            assert main(arguments(server, "write", given, *length, *more)) == 2
            assert server.prompts == []
        assert "3,000,000 words are asked for" in one_line(capsys.readouterr().err)


# run


def rows_file(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_run_ends_with_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_file(tmp_path, *(json.dumps({"id": n, "prompt": TEA}) for n in range(3)))
    out = tmp_path / "out"
    with Model() as server:
        given = arguments(server, "run", str(rows), "-o", str(out))
        assert main([*given, "--limit", "2"]) == 0
        assert "2 of 2 texts" in capsys.readouterr().err
        assert main(given) == 0
    printed = capsys.readouterr().err
    assert f"wrote {out / 'texts.jsonl'}: 3 of 3 texts (2 from earlier runs)" in printed


def test_a_dry_run_rejects_what_the_run_would_reject(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = rows_file(tmp_path, json.dumps({"id": 1, "prompt": TEA})), tmp_path / "out"
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": 1, "prompt": "Write 900 words."}), encoding="utf-8")
    with Model() as server:
        assert main(arguments(server, "run", str(rows), "-o", str(out))) == 0
        capsys.readouterr()
        asked = len(server.prompts)
        for file, folder, more, message in (
            (rows, out, ("--parallel",), "was begun with parallel False, not True"),
            (rows, out, ("--prompts", "/nowhere"), "no prompts at"),
            (other, out, (), "has other instructions under 1 of these ids"),
            (rows, rows, (), "cannot write to"),
        ):
            given = arguments(server, "run", str(file), "-o", str(folder), *more)
            for command_line in (given, [*given, "--dry-run"]):
                assert main(command_line) == 2
                assert message in one_line(capsys.readouterr().err)
        assert len(server.prompts) == asked


def test_dry_run_progress_and_summary_show_the_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[mine.models]\n"{WRITER}" = [1000, 1000]\n')
    rows = rows_file(tmp_path, *(json.dumps({"id": n, "prompt": TEA}) for n in range(2)))
    out = tmp_path / "out"
    with Model() as server:
        given = arguments(server, "run", str(rows), "-o", str(out))
        assert main([*given, "--dry-run"]) == 0
        assert "tokens\n" in capsys.readouterr().out  # no price is known
        monkeypatch.setenv("LONGWRITER_PRICES", str(prices))
        assert main([*given, "--dry-run"]) == 0
        estimated = money_in(capsys.readouterr().out)
        assert main([*given, "--limit", "1"]) == 0
        first = capsys.readouterr().err
        assert main(given) == 0
        second = capsys.readouterr().err
        assert main(given) == 0
        third = capsys.readouterr().err
    for printed in (first, second):
        line, summary = printed.rsplit("wrote ", 1)
        tokens = [
            int(n.replace(",", "")) for n in re.findall("([0-9,]+) (?:prompt|compl)", summary)
        ]
        assert "6 calls" in summary
        assert money_in(summary) == pytest.approx(sum(tokens) / 1000, abs=0.01)
        assert money_in(line.splitlines()[-1]) == money_in(summary)
    assert estimated == pytest.approx(money_in(first) + money_in(second), rel=0.5)
    assert "0 calls" in third
    assert money_in(third.rsplit("wrote ", 1)[1]) == 0  # nothing is paid twice


def money_in(printed: str) -> float:
    return float(re.findall(r"\$([0-9,.]*[0-9])", printed)[-1].replace(",", ""))


def test_run_reports_failures_and_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_file(tmp_path, '{"id": "a", "prompt": "Write 900 words."}')
    with Model(answer=lambda _prompt: "") as server:
        assert main(arguments(server, "run", str(rows), "-o", str(tmp_path / "out"))) == 1
    printed = capsys.readouterr().err
    assert "failed.jsonl: empty 1" in printed
    assert "1 of 1 have no text; to resume: agentwrite run" in printed


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([], "no instructions", id="empty-file"),
        pytest.param(['{"id": 1, "prompt": "a"}', '{"id": '], "line 2: not JSON", id="cut"),
        pytest.param(["[1]"], "line 1: not a JSON object", id="a-list"),
        pytest.param(['{"text": "a"}'], "line 1: no text under `instruction`", id="no-field"),
        pytest.param(['{"prompt": 5}'], "line 1: no text under `instruction`", id="a-number"),
        pytest.param(["", '{"prompt": " "}'], "line 2: the instruction is empty", id="blank"),
        pytest.param(
            ['{"id": 1, "prompt": "a"}', '{"id": "1", "prompt": "b"}'],
            "line 2: id '1' is already on line 1",
            id="duplicate-ids",
        ),
        pytest.param(['{"prompt": "a"}'] * 2, "is already on line 1", id="same-instruction"),
        pytest.param(['{"prompt": "a", "length": "2k"}'], "line 1: length must be", id="length"),
        pytest.param(['{"prompt": "a", "length": 0}'], "line 1: length must be", id="no-words"),
        pytest.param(['{"prompt": "a", "id": [1]}'], "line 1: id must be", id="id"),
        pytest.param(["x"] * 9, "and 4 more", id="many"),
    ],
)
def test_bad_instructions_give_one_line_and_make_no_calls(
    lines: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_file(tmp_path, *lines)
    with Model() as server:
        options = ("-o", str(tmp_path / "out"), "--strict")
        assert main(arguments(server, "run", str(rows), *options)) == 2
        assert server.prompts == []
    line = one_line(capsys.readouterr().err)
    assert says in line
    assert str(rows) in line
    assert not (tmp_path / "out").exists()


def test_bad_rows_are_reported_and_the_others_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_file(tmp_path, '{"prompt": "Write 900 words on tea."}', "[1]")
    with Model() as server:
        assert main(arguments(server, "run", str(rows), "-o", str(tmp_path / "out"))) == 1
    printed = capsys.readouterr().err
    assert "1 of 1 texts" in printed
    assert "1 bad rows skipped, see" in printed


def test_a_file_in_another_encoding_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes('{"prompt": "写2000字"}\n'.encode("gbk"))
    with Model() as server:
        assert main(arguments(server, "run", str(rows), "-o", str(tmp_path / "out"))) == 2
    assert "line 1: not UTF-8" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(["write", " ", "--base-url", "http://x/v1"], "is empty", id="empty"),
        pytest.param(["write", TEA], "set AGENTWRITE_API_KEY or OPENAI_API_KEY", id="no-key"),
        pytest.param(["write", TEA, "--base-url", "x"], "must be a URL", id="base-url"),
        pytest.param(
            ["write", TEA, "--base-url", "http://x/v1", "--prompts", "no/where"],
            "no prompts at",
            id="prompts",
        ),
        pytest.param(["write", TEA, "-o", "no/where/out.md"], "there is no folder", id="output"),
        pytest.param(["write", TEA, "-o", "."], "is a folder", id="output-folder"),
        pytest.param(["run", "no.jsonl", "-o", "out"], "cannot read no.jsonl", id="no-file"),
        pytest.param(["write", TEA, "--concurrency", "5000"], "from 1 to 1024", id="concurrency"),
    ],
)
def test_bad_arguments_give_one_line(
    given: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*given, "--model", "m"]) == 2
    assert says in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_an_invalid_number_is_rejected(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["write", TEA, "--model", "m", f"--length={value}"]) == 2
    assert "Invalid value for '--length'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["write", "run"])
def test_an_endpoint_that_refuses_every_call_is_an_input_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_file(tmp_path, json.dumps({"prompt": TEA}))
    given = {"write": ["write", TEA], "run": ["run", str(rows), "-o", str(tmp_path / "out")]}[kind]
    with Model(api_key="another") as server:
        assert main(arguments(server, *given)) == 2
    printed = capsys.readouterr().err
    assert "Incorrect API key" in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_ctrl_c_reports_how_to_resume_and_the_next_run_pays_only_for_the_rest(
    tmp_path: Path,
) -> None:
    rows = rows_file(tmp_path, *(json.dumps({"id": n, "prompt": TEA}) for n in range(4)))
    with Model(delay=0.2) as server:
        given = arguments(server, "run", str(rows), "-o", str(tmp_path / "out"))
        process = subprocess.Popen(
            command("agentwrite", *given),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while len(server.prompts) < 6:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 130, printed
        assert f"stopped; to resume: agentwrite run {rows}" in printed
        assert "Traceback" not in printed
        assert main(given) == 0
        assert len(server.prompts) <= 4 * 6 + 4
