"""Every path, option and command in the documentation exists and works."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import run
from support.judging import JUDGE_ENVIRONMENT

from agentwrite.cli.main import main as agentwrite_main
from agentwrite.data.sft_rules import RULES
from longwriter_core.mock_server.server import WRITER, MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.lm_eval_task.tasks import JudgedTask, RulerTask
from longwriter_eval.stats.thresholds import MIN_COVERAGE

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "agentwrite/*.md", "recipes/*.md")
    for path in sorted(ROOT.glob(pattern))
}
MEASURE = PAGES["docs/measure.md"]
WRITE = PAGES["docs/write.md"]
COMMANDS = [
    line.partition("   #")[0].strip()
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def _starting_with(program: str) -> list[str]:
    commands = [line for line in COMMANDS if line.startswith(program + " ")]
    assert commands
    return commands


@pytest.fixture(scope="module")
def run_options() -> str:
    return run("lm_eval", "run", "--help").out


@pytest.mark.parametrize("line", _starting_with("lm_eval"))
def test_lm_eval_knows_every_option(line: str, run_options: str) -> None:
    for option in re.findall(r"--\w+", line):
        assert option in run_options


@pytest.mark.slow
@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    "line",
    [
        line
        for line in _starting_with("lm_eval")
        if "--model local-chat" in line
        and "agentwrite/" not in line  # see agentwrite/test_serve.py
        and "runs/scores" not in line  # recipes/README.md: see train/test_recipe_training.py
    ],
)
def test_the_endpoint_commands_run_unchanged(line: str, tmp_path: Path) -> None:
    with MockServer() as server:
        values = {"$MODEL": WRITER, "$BASE_URL": server.base_url, "runs/mine": str(tmp_path)}
        for name, value in values.items():
            line = line.replace(name, value)
        line = re.sub(r"http://localhost:8001/v1", server.base_url, line)
        ended = run(
            *shlex.split(line), "--limit", "1",
            LONGWRITER_JUDGE_BASE_URL=server.base_url, **JUDGE_ENVIRONMENT,
        )  # fmt: skip
    assert ended.code == 0, ended.out
    assert "quality_score" in ended.out


@pytest.mark.parametrize("line", [*_starting_with("longwriter"), *_starting_with("agentwrite")])
def test_longwriter_commands_know_every_subcommand_and_option(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, name, *words = shlex.split(line)
    run_command = main if program == "longwriter" else agentwrite_main
    help_of = [name, words[0]] if name in ("experiment", "recipes") else [name]
    assert run_command([*help_of, "--help"]) == 0
    known = re.findall(r"(?<![\w-])--?[a-z-]+", capsys.readouterr().out)
    assert not [word for word in words if word.startswith("-") and word not in known]


@pytest.mark.parametrize(
    "line",
    [
        line
        for name in ("write", "run", "select", "stats", "sft", "dpo")
        for line in _starting_with(f"agentwrite {name}")
        if "--engine ray" not in line  # see agentwrite/test_cluster.py
    ],
)
@pytest.mark.usefixtures("upstream")
def test_agentwrite_commands_run_unchanged(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = json.dumps({"instruction": "Write 2000 words on tea."})
    pair = {"prompt": "Why?", "response": "So.", "chosen": "A" * 20, "rejected": "B" * 20}
    for name in ("instructions", "chats", "prompts"):
        (tmp_path / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    for name in ("general", "preferences"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    line = line.replace("allenai/WildChat-1M", "chats.jsonl")
    with MockServer() as server:
        monkeypatch.setenv("LONGWRITER_JUDGE_BASE_URL", server.base_url)
        for name, value in JUDGE_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        line = line.replace("$MODEL", WRITER).replace("$BASE_URL", server.base_url)
        words = shlex.split(line)[1:]
        model = ["--model", WRITER, "--base-url", server.base_url]
        if "--plan" in words:
            assert agentwrite_main(["plan", "Write 900 words.", "-o", "plan.yaml", *model]) == 0
        if words[0] == "sft":
            assert agentwrite_main(["run", "instructions.jsonl", "-o", "runs/texts", *model]) == 0
        assert agentwrite_main(words) == 0
    for name in re.findall(r"(?<= -o )\S+", line):
        assert (tmp_path / name).exists()


def test_the_python_example_writes_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", WRITE, re.DOTALL)
    assert sum(map(bool, code.splitlines())) == 3
    with MockServer() as server:
        exec(code, {"MODEL": WRITER, "BASE_URL": server.base_url})
    assert int(capsys.readouterr().out.split()[0]) > 10_000


def test_every_reason_and_rule_of_agentwrite_is_documented() -> None:
    modules = sorted((ROOT / "agentwrite").rglob("*.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in modules)
    calls = r"(?:Rejected|apply|UnusableRowError|WriteError)"
    named = {*re.findall(rf'{calls}\((?:row, )?\s*"([a-z_]+)"', source), *RULES}
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"`{name}`" not in WRITE]


@pytest.mark.parametrize("line", _starting_with("make"))
def test_make_knows_every_target(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in shlex.split(line, comments=True)[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_a_page_exists(page: str) -> None:
    named = re.findall(
        r"`((?:longwriter_core|longwriter_eval|longwriter_train|agentwrite|scripts|tests|harness_tasks|docs)/[^`\s]*)`",
        PAGES[page],
    )
    links = re.findall(r"\]\((?!http)([^)]+)\)", PAGES[page])
    here = (ROOT / page).parent.relative_to(ROOT)
    named += [str(here / link.partition("#")[0]) for link in links if not link.startswith("#")]
    headings = re.findall(r"^#+ (.+)$", PAGES[page], re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert not [path for path in named if "$" not in path and not (ROOT / path).exists()]


def test_every_metric_and_judge_setting_is_documented() -> None:
    for name in {*JudgedTask.metrics, *RulerTask.metrics}:
        assert f"`{name}`" in MEASURE
    assert "`judge`" in MEASURE
    assert "`LONGWRITER_JUDGE`" in MEASURE
    for name in JudgeSettings.model_fields.keys() - {"profile"}:
        assert f"`judge_{name}`" in MEASURE
        assert f"`LONGWRITER_JUDGE_{name.upper()}`" in MEASURE
    assert f"under {MIN_COVERAGE}," in MEASURE


def test_the_command_reference_is_up_to_date() -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_every_argument_and_option_has_a_help_text() -> None:
    rows = re.findall(r"^\| (`.+`) \|(.*)\|(.*)\|$", PAGES["docs/commands.md"], re.MULTILINE)
    assert len(rows) > 80
    assert not [name for name, meaning, _ in rows if not meaning.strip()]
