"""Request fields and cost limits: --extra, --plan-model, --max-cost and similar options."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.model import INSTRUCTION, WRITER, Model, by_plan, is_plan, is_summary

from agentwrite.cli.main import main
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

PLANNER, SUMMARIZER = "mock-planner", "mock-summarizer"
MODELS = dict.fromkeys((WRITER, PLANNER, SUMMARIZER))


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dollar for each thousand tokens of the mock writer, prompt and completion alike."""
    file = tmp_path / "prices.toml"
    file.write_text(f'[mock.models]\n"{WRITER}" = [1000, 1000]\n', encoding="utf-8")
    monkeypatch.setenv("LONGWRITER_PRICES", str(file))


def write(model: Model, *options: str) -> int:
    return main(["write", INSTRUCTION, "--model", WRITER, "--base-url", model.base_url, *options])


def run(folder: Path, model: Model, *options: str, texts: int = 3) -> int:
    folder.mkdir(exist_ok=True)
    path = folder / "instructions.jsonl"
    rows = ({"id": n, "instruction": f"{INSTRUCTION} No. {n}"} for n in range(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = [str(path), "-o", str(folder / "out"), "--model", WRITER, "--base-url", model.base_url]
    return main(["run", *given, *options])


def test_sampling_options_are_in_every_request() -> None:
    with Model(answer=by_plan) as model:
        options = ["--temperature", "0.3", "--max-tokens", "999", "--extra", '{"top_p": 0.9}']
        assert write(model, *options) == 0
        sent = [request.body for request in model.history]
        assert {body["temperature"] for body in sent} == {0.3}
        assert {body["max_tokens"] for body in sent} == {999}
        assert {body["top_p"] for body in sent} == {0.9}


def test_plan_and_rewrite_take_the_options_of_requests_and_money(
    tmp_path: Path, prices: None, capsys: pytest.CaptureFixture[str]
) -> None:
    del prices
    out, endpoint = str(tmp_path / "text.md"), ("--model", WRITER, "--base-url")
    options = ["--temperature", "0.3", "--max-tokens", "999", "--extra", '{"top_p": 0.9}']
    with Model(answer=by_plan) as model:
        plan = ["plan", INSTRUCTION, *endpoint, model.base_url]
        assert main([*plan, "--dry-run"]) == 0
        assert "about 1 calls" in capsys.readouterr().out
        assert main([*plan, "--max-cost", "0.01"]) == 1
        assert model.prompts == []
        assert main([*plan, *options, "--timeout", "60", "--max-cost", "5000"]) == 0
        assert write(model, "--max-cost", "5000", "-o", out) == 0
        rewrite = ["rewrite", str(tmp_path / "text.book"), "--sections", "1", "--note", "Sail."]
        calls = len(model.prompts)
        assert main([*rewrite, "--max-cost", "0.01"]) == 1
        assert len(model.prompts) == calls
        assert "--max-cost" in capsys.readouterr().err
        assert main([*rewrite, *options, "--timeout", "60", "--max-cost", "9000"]) == 0
        for request in (model.history[0], model.history[-1]):
            body = request.body
            assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.3, 999, 0.9)


def test_another_extra_field_is_another_call() -> None:
    with Model(answer=by_plan) as model:
        assert write(model) == 0
        assert write(model, "--extra", '{"top_p": 0.9}') == 0
        assert len(model.prompts) == 10
        assert write(model, "--extra", '{"top_p": 0.9}') == 0
        assert len(model.prompts) == 10


def test_plans_and_summaries_can_have_models_of_their_own() -> None:
    def answer(prompt: str) -> str:
        return by_plan(prompt) * (1 if is_plan(prompt) or is_summary(prompt) else 30)

    with Model(answer=answer, models=MODELS) as model:
        options = ["--plan-model", PLANNER, "--summary-model", SUMMARIZER]
        write(model, *options, "--context", "1400", "--max-tokens", "400")
        used = {
            "plan" if is_plan(r.prompt) else "summary" if is_summary(r.prompt) else "text": r.model
            for r in model.history
        }
        assert used["plan"] == PLANNER
        assert used.get("summary", SUMMARIZER) == SUMMARIZER
        assert used["text"] == WRITER


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--temperature", "nan", "not a finite number"),
        ("--timeout", "NaN", "not a finite number"),
        ("--max-cost", "inf", "not a finite number"),
        ("--max-cost", "0", "max_cost"),
        ("--timeout", "-1", "timeout"),
        ("--extra", "[1]", "JSON object"),
        ("--extra", '{"top_p": NaN}', "JSON object"),
        ("--extra", '{"model": "other"}', "cannot set model"),
        ("--extra", "{", "JSON object"),
        ("--max-cost", "5", "needs the price"),
    ],
)
def test_an_unusable_value_is_rejected_before_any_call(
    option: str, value: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=by_plan) as model:
        assert write(model, option, value) == 2
        assert not model.prompts
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sft", "DIR", "-o", "a.jsonl", "--min-length-score", "nan"],
        ["sft", "DIR", "-o", "a.jsonl", "--max-repetition", "nan"],
        ["sft", "DIR", "-o", "a.jsonl", "--general", "b.jsonl", "--ratio", "nan"],
        ["run", "a.jsonl", "-o", "DIR", "--model", "m", "--temperature", "nan"],
        ["select", "a.jsonl", "-o", "b.jsonl", "--model", "m", "--temperature", "nan"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-2]}",
)
def test_no_number_option_takes_nan(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "not a finite number" in capsys.readouterr().err


@pytest.mark.usefixtures("prices")
def test_a_run_stops_before_it_could_cost_more_and_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 3.0
    with Model(answer=by_plan) as model:
        assert run(tmp_path / "a", model, "--max-cost", str(limit), "--max-tokens", "1000") == 1
        printed = capsys.readouterr().err
        assert "--max-cost $3.00" in printed
        assert "to resume: agentwrite run" in printed
        stored = (tmp_path / "a" / "out" / "calls").rglob("*.json")
        calls = [json.loads(path.read_bytes()) for path in stored]
        paid = sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls) / 1000
        assert 0 < paid <= limit
        before = len(model.prompts)
        assert run(tmp_path / "a", model, "--max-cost", "500", "--max-tokens", "1000") == 0
        assert len(model.prompts) == 15
        assert 0 < before < 15


@pytest.mark.usefixtures("prices")
def test_calls_in_flight_count_at_their_maximum(tmp_path: Path) -> None:
    model = Model(answer=by_plan)
    model.delay = 0.1
    with model:
        # each call may cost more than a dollar, so two cannot be in flight together
        run(tmp_path / "a", model, "--max-cost", "3.5", "--max-tokens", "1500")
        assert model.stats().max_in_flight == 1


def test_each_base_url_has_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTWRITE_API_KEY", "one, two")
    first, second = Model(answer=by_plan, api_key="one"), Model(answer=by_plan, api_key="two")
    with first, second:
        urls = ["--base-url", first.base_url, "--base-url", second.base_url]
        assert main(["write", INSTRUCTION, "--model", WRITER, *urls, "--parallel"]) == 0


def test_the_number_of_keys_must_be_that_of_the_base_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTWRITE_API_KEY", "one,two,three")
    settings = Settings.resolve(model=WRITER, base_urls=("http://a.example/v1",))
    store: Any = None
    with pytest.raises(InputError, match="3 keys for 1 base URLs"):
        settings.chat(store)
