"""`--dry-run` says what a real run then calls: it rehearses the engine with the mock writer."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.model import WRITER, Model
from support.prose import write_rows

from agentwrite.cli.main import main
from agentwrite.estimate import Estimate, estimate_run, estimate_text
from agentwrite.settings import Settings
from agentwrite.write import write_text
from agentwrite.writing.state import Instruction
from longwriter_core.llm import Store, Usage

CONTEXT = {"context": 9_000, "max_tokens": 2_000}
# The mock server counts a token for each word of a reply, the estimate one for four characters.
TOLERANCE = 0.05


@pytest.fixture(autouse=True)
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of the mock writer: cached tokens cost a tenth, and completions nothing."""
    file = tmp_path / "prices.toml"
    file.write_text(f'[mock.models]\n"{WRITER}" = [1, 0.1, 0]\n', encoding="utf-8")
    monkeypatch.setenv("LONGWRITER_PRICES", str(file))


def written(instruction: str, **settings: Any) -> tuple[Usage, int]:
    """What the text costs; and its summaries."""
    usage: list[Usage] = []
    with Model(prefix_cache=True) as server:
        text = write_text(
            instruction, model=WRITER, base_url=server.base_url, usage=usage.append, **settings
        )
    return usage[0], text.folded


def estimated(instruction: str, length: int | None, **settings: Any) -> Estimate:
    chosen = Settings.resolve(model=WRITER, base_urls=["http://127.0.0.1:1/v1"], **settings)
    return estimate_text(Instruction("", instruction, length), chosen, Store())


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        pytest.param(4_000, {}, id="one-plan"),
        pytest.param(12_000, CONTEXT, id="summaries"),
        pytest.param(4_000, {"parallel": True}, id="parallel"),
        pytest.param(30_000, {"parallel": True}, id="chapters"),
    ],
)
def test_a_dry_run_finds_what_the_run_spends(words: int, settings: dict[str, Any]) -> None:
    instruction = f"Write a {words}-word history of lighthouses."
    expected = estimated(instruction, words, **settings)
    spent, folded = written(instruction, **settings)
    assert bool(folded) is (settings is CONTEXT)
    assert expected.calls == pytest.approx(spent.calls, rel=TOLERANCE)
    assert expected.prompt_tokens == pytest.approx(spent.prompt_tokens, rel=TOLERANCE)
    assert expected.cached_tokens == pytest.approx(spent.cached_tokens, rel=TOLERANCE)
    assert expected.cached_usd == pytest.approx(spent.usd, rel=TOLERANCE)
    assert expected.usd == pytest.approx(expected.prompt_tokens / 1e6)
    assert expected.completion_tokens > spent.completion_tokens > words * 0.9


def test_a_dry_run_counts_only_the_calls_that_the_store_lacks() -> None:
    instruction = "Write a 4000-word history of lighthouses."
    sections = 0

    def failing(prompt: str) -> Any:
        nonlocal sections
        sections += "Now write this step" in prompt
        return 400 if sections > 6 else None

    with Model(answer=failing) as server, pytest.raises(Exception, match="section 7"):
        write_text(instruction, model=WRITER, base_url=server.base_url)
    rest = estimated(instruction, 4_000)
    assert rest.calls == 4
    written(instruction)
    assert estimated(instruction, 4_000).calls == 0


def test_a_context_too_small_for_the_text_is_an_error_before_any_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = "Write 4000 words. " + "Mind the tide. " * 3_000
    with Model() as server:
        given = ["--model", WRITER, "--base-url", server.base_url, "--context", "8192"]
        assert main(["write", asked, *given, "--dry-run"]) == 2
        assert server.prompts == []
    assert "context_overflow" in capsys.readouterr().err


def test_a_run_of_many_texts_is_estimated_from_one_of_each_length(tmp_path: Path) -> None:
    rows = [{"id": n, "instruction": f"Write 900 words on tea, no. {n}."} for n in range(2_000)]
    path = write_rows(tmp_path / "rows.jsonl", *rows, {"id": "x", "instruction": "Write on tea."})
    settings = Settings.resolve(model=WRITER, base_urls=["http://127.0.0.1:1/v1"])
    total = estimate_run(path, tmp_path / "out", settings)
    assert (total.texts, total.without_length) == (2_001, 1)
    one = estimated("Write 900 words on tea, no. 1.", 900)
    assert total.calls == 2_000 * one.calls + estimated("Write on tea.", 5_000).calls
    assert not (tmp_path / "out").exists()


def test_both_costs_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["write", "Write 6000 words.", "--model", WRITER, "--base-url", "http://127.0.0.1:1/v1"]
    assert main([*given, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    whole, cached = (float(usd) for usd in re.findall(r"\$([\d.]+)", printed))
    assert 0 < cached < whole
    assert "which a prefix cache saves" in printed
