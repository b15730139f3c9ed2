"""`agentwrite dpo --steps`: pairs of candidates for one section, after the same text."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from support.judging import JUDGE_OPTIONS, settings_at
from support.prose import read_jsonl, write_rows

from agentwrite.cli.main import main
from agentwrite.data.dpo import DpoSummary, dpo
from agentwrite.data.dpo_estimate import estimate
from agentwrite.settings import Settings
from agentwrite.thresholds import PairOptions
from longwriter_core.errors import InputError
from longwriter_core.mock_server import JUDGE, WRITER, MockReply, MockRequest, MockServer
from longwriter_core.text.length import count_words
from longwriter_eval.judge.settings import JudgeSettings

NAMES = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth",
         "Reading Experience")  # fmt: skip


def by_text(request: MockRequest) -> str | None:
    """The judge's stars depend on the text, so that candidates differ."""
    if not request.is_judge or "<Text>" not in request.prompt:
        return None
    text = request.prompt.rpartition("<Text>")[2]
    return json.dumps({"Analysis": "", **dict.fromkeys(NAMES, 1 + zlib.crc32(text.encode()) % 5)})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def make(folder: Path, server: MockServer, **options: Any) -> DpoSummary:
    rows = ({"id": f"p{n}", "prompt": f"Write 1200 words on tea {n}."} for n in range(2))
    write_rows(folder / "prompts.jsonl", *rows)
    judge = settings_at(server)
    settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,))
    return dpo(folder / "prompts.jsonl", folder / "dpo.jsonl", settings, judge,
               steps=True, samples=3, pairs=PairOptions(min_margin=1), **options)  # fmt: skip


def test_both_answers_of_a_pair_begin_with_the_best_sections_before(tmp_path: Path) -> None:
    with MockServer(on_request=by_text) as server:
        made = make(tmp_path, server)
    rows = read_jsonl(tmp_path / "dpo.jsonl")
    assert made.pairs == len(rows) >= 4
    samples = {row["id"]: row["steps"] for row in read_jsonl(tmp_path / "dpo.run/samples.jsonl")}
    assert [len(steps) for steps in samples.values()] == [3, 3]
    for row in rows:
        id, _, number = row["id"].partition(" step ")
        steps = samples[id]
        best = [step["samples"][step["best"]]["text"] for step in steps[: row["step"] - 1]]
        prefix = "".join(f"{text}\n\n" for text in best)
        candidates = [sample["text"] for sample in steps[row["step"] - 1]["samples"]]
        assert row["step"] == int(number)
        assert row["prefix_characters"] == len(prefix)
        for answer in (row["chosen"], row["rejected"]):
            assert answer["content"].startswith(prefix)
            assert answer["content"].removeprefix(prefix) in candidates
        assert row["chosen_score"] == max(row["scores"]) > row["rejected_score"]
        assert row["messages"] == [{"role": "user", "content": f"Write 1200 words on tea {id[1]}."}]
        assert row["words"] == count_words(row["chosen"]["content"])


def test_candidates_are_judged_in_context_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    with MockServer(on_request=by_text) as server:
        make(tmp_path, server)
        asked = len(server.prompts)
        first = (tmp_path / "dpo.jsonl").read_bytes()
        make(tmp_path, server)
        assert len(server.prompts) == asked
    assert (tmp_path / "dpo.jsonl").read_bytes() == first
    steps = read_jsonl(tmp_path / "dpo.run/samples.jsonl")[0]["steps"]
    opening = steps[0]["samples"][steps[0]["best"]]["text"]
    second = steps[1]["samples"][0]["text"]
    (judged,) = (p for p in server.prompts if second in p.rpartition("<Text>")[2] and "<Text>" in p)
    assert opening in judged.partition("<Text>")[0]
    assert "Paragraph 3 - Main Point" in judged.partition("<Text>")[0]


def test_a_section_whose_candidates_are_all_cut_fails_with_its_place(tmp_path: Path) -> None:
    def cut(request: MockRequest) -> MockReply | str | None:
        if "Now write this step: Paragraph 2" in request.prompt and not request.is_judge:
            return MockReply("The tide came in and", finish_reason="length")
        return by_text(request)

    with MockServer(on_request=cut) as server:
        made = make(tmp_path, server)
    assert (made.pairs, made.sampling.missing) == (0, 2)
    failures = read_jsonl(tmp_path / "dpo.run/failed.jsonl")
    assert {(row["reason"], row["place"]) for row in failures} == {("cut", "section 2 of 3")}


def test_whole_answers_and_steps_need_different_files(tmp_path: Path) -> None:
    with MockServer(on_request=by_text) as server:
        make(tmp_path, server, limit=1)
        judge = settings_at(server)
        settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,))
        with pytest.raises(InputError, match="was begun with"):
            dpo(tmp_path / "prompts.jsonl", tmp_path / "dpo.jsonl", settings, judge, samples=3)


def test_a_dry_run_counts_the_calls_of_all_sections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "prompts.jsonl", {"prompt": "Write 2000 words on tea."})
    settings = Settings.resolve(model=WRITER)
    judge = JudgeSettings(model=JUDGE, prompt="longwriter")
    counted = estimate(tmp_path / "prompts.jsonl", tmp_path / "dpo.jsonl", settings, judge,
                       steps=True, samples=3)  # fmt: skip
    assert (counted.calls, counted.judge_calls) == (1 + 4 * 3, 4 * 3)
    arguments = ["dpo", str(tmp_path / "prompts.jsonl"), "-o", str(tmp_path / "dpo.jsonl"),
                 "--model", WRITER, *JUDGE_OPTIONS, "--steps", "--dry-run"]  # fmt: skip
    assert main([*arguments, "--samples", "3"]) == 0
    assert "13" in capsys.readouterr().out
