"""Writing one text: what each prompt shows, what is retried, and what fails with a reason."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY
from support.model import (
    INSTRUCTION,
    OVERFLOW,
    PLAN,
    WRITER,
    Model,
    by_plan,
    is_plan,
    is_summary,
    section,
    step_of,
)

from agentwrite.errors import WriteError
from agentwrite.write import write_text
from agentwrite.writing.state import Text
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import Store, call_key
from longwriter_core.llm.ask import MAX_TRIES
from longwriter_core.text.diagnostics import wanted_language
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words, length_score


def write(server: Model, instruction: str = INSTRUCTION, **settings: Any) -> Text:
    return write_text(instruction, model=WRITER, base_url=server.base_url, **settings)


# Prompts of each step


def test_each_step_sees_instruction_plan_all_text_before_it_and_its_own_line() -> None:
    with Model(answer=by_plan) as server:
        text = write(server)
    plan, *steps = server.prompts
    assert INSTRUCTION in plan
    assert "Total length: 1600 words" in plan
    assert len(steps) == len(text.plan.steps) == 4
    for number, prompt in enumerate(steps, 1):
        assert INSTRUCTION in prompt
        assert text.plan.text in prompt
        step, written = text.plan.steps[number - 1], text.sections[number - 1]
        assert prompt.endswith(step.with_words(written.requested).line)
        assert "\n\n".join(section(n) for n in range(1, number)) in prompt
        assert section(number) not in prompt
    assert text.text == "\n\n".join(section(n) for n in range(1, 5))


def test_only_the_steps_own_line_follows_the_text_so_far() -> None:
    with Model(answer=by_plan) as server:
        write(server)
    for earlier, later in zip(server.prompts[2:], server.prompts[3:], strict=False):
        pairs = zip(earlier, later, strict=False)
        shared = next(n for n, (a, b) in enumerate(pairs) if a != b)
        behind = earlier[shared:]
        assert behind.startswith("(End of the text so far.)")  # a server caches all before it
        assert len(behind) < 150


def test_parallel_steps_see_the_plan_and_no_text() -> None:
    with Model(answer=by_plan, delay=0.2) as server:
        text = write(server, parallel=True)
    assert server.stats().max_in_flight == 4
    for prompt in server.prompts[1:]:
        assert text.plan.text in prompt
        assert "tells of the harbour" not in prompt
    assert text.text == "\n\n".join(section(n) for n in range(1, 5))
    assert text.parallel


def test_parallel_sections_are_cleaned_again_in_order() -> None:
    def answer(prompt: str) -> str:
        return by_plan(prompt) if is_plan(prompt) else f"# The Harbour\n\n{by_plan(prompt)}"

    with Model(answer=answer) as server:
        text = write(server, parallel=True)
    assert text.text.count("# The Harbour") == 1
    assert text.cleaned == Counter(repeated_heading=3)


def test_calls_in_flight_are_bounded_in_parallel_too() -> None:
    with Model(answer=by_plan, delay=0.05) as server:
        write(server, parallel=True, concurrency=2)
    assert server.stats().max_in_flight == 2


def test_requests_have_the_papers_sampling_parameters() -> None:
    with Model(answer=by_plan) as server:
        write(server)
    assert len(server.history) == 5
    for request in server.history:
        assert request.body.keys() - {"response_format"} == {
            "model", "messages", "temperature", "max_tokens",
        }  # fmt: skip
        assert ("response_format" in request.body) == is_plan(request.prompt)
        assert (request.body["temperature"], request.body["max_tokens"]) == (1.0, 4096)


@pytest.mark.usefixtures("upstream")
def test_the_papers_prompts_are_filled_in_as_upstream_does() -> None:
    with Model(answer=by_plan) as server:
        text = write(server, prompts="official")
    assert text.prompts == "official"
    assert not any("response_format" in request.body for request in server.history)
    plan, first, *_, last = server.prompts
    assert plan.startswith("I need you to help me break down")
    assert f"Already written text:\n\n\n\nPlease integrate" in first  # noqa: F541
    assert f"now continue writing {text.plan.steps[3].line}. If needed" in last
    assert section(3) in last


def test_a_plan_may_be_structured_output() -> None:
    steps = [{"main_point": f"Point {n}", "word_count": 400} for n in range(1, 5)]

    def answer(prompt: str) -> str:
        return json.dumps({"steps": steps}) if is_plan(prompt) else by_plan(prompt)

    with Model(answer=answer) as server:
        text = write(server)
    assert [step.point for step in text.plan.steps] == [step["main_point"] for step in steps]
    assert [step.words for step in text.plan.steps] == [400] * 4
    assert f"{text.plan.steps[0].line}\n" in server.prompts[-1]


def test_an_endpoint_that_refuses_schemas_is_asked_for_the_text_format() -> None:
    with Model(answer=by_plan, refuses=("response_format",)) as server:
        assert len(write(server).sections) == 4


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "no_plan"),
        ([{"main_point": " ", "word_count": 9}], "no_main_point"),
        ([{"main_point": "Mud", "word_count": 9}] * 51, "too_many_steps"),
    ],
)
def test_a_structured_plan_that_cannot_be_followed_is_retried(
    steps: list[dict[str, Any]], reason: str
) -> None:
    with Model(answer=lambda _prompt: json.dumps({"steps": steps})) as server:
        with pytest.raises(WriteError) as failed:
            write(server)
        assert (failed.value.reason, len(server.prompts)) == (reason, MAX_TRIES)


# Two levels


def test_a_request_beyond_one_plan_is_planned_in_chapters() -> None:
    with Model() as server:
        text = write(server, "Write a 30,000-word history of harbours.", parallel=True)
    chapters = [chapter for chapter, _ in text.plan.chapters]
    assert len(chapters) == 6
    assert sum(chapter.words for chapter in chapters) == 30_000 == text.plan.words
    assert len(text.plan.steps) > 50
    assert [step.number for step in text.plan.steps] == list(range(1, len(text.plan.steps) + 1))
    plans = [prompt for prompt in server.prompts if is_plan(prompt)]
    assert len(plans) == 1 + 6
    for chapter in chapters:
        (prompt,) = [each for each in plans if f"break down: {chapter.line}" in each]
        assert f"Total length: {chapter.words} words" in prompt
        assert all(other.line in prompt for other in chapters)
        assert chapter.line in text.plan.text
    assert length_score(30_000, text.words) > 90


def test_only_the_current_chapters_steps_are_in_a_prompt() -> None:
    with Model() as server:
        text = write(server, "Write a 30,000-word history of harbours.", parallel=True)
    prompts = {step_of(prompt): prompt for prompt in server.prompts if not is_plan(prompt)}
    starts = [start for _, start in text.plan.chapters]
    for step in text.plan.steps:
        prompt = prompts[step.number]
        assert all(chapter.line in prompt for chapter, _ in text.plan.chapters)
        chapter = max(start for start in starts if start <= step.number)
        for other in text.plan.steps:
            own = max(start for start in starts if start <= other.number) == chapter
            assert (other.line in prompt) is own


@pytest.mark.usefixtures("upstream")
def test_with_the_papers_prompts_every_prompt_has_the_whole_plan() -> None:
    with Model() as server:
        text = write(server, "Write a 26,000-word history.", parallel=True, prompts="official")
    assert text.plan.chapters
    sections = [prompt for prompt in server.prompts if "continue writing" in prompt]
    assert len(sections) == len(text.plan.steps)
    assert all(text.plan.text in prompt for prompt in sections)


def test_more_than_a_million_words_are_rejected() -> None:
    with Model() as server, pytest.raises(WriteError) as failed:
        write(server, length=1_000_001)
    assert (failed.value.reason, server.prompts) == ("too_long", [])


# Length and language


def test_a_text_of_more_than_20000_words_over_http() -> None:
    with Model() as server:
        text = write(server, "Write a 24,000-word history of harbours.")
    assert text.words == count_words(text.text) > 20_000
    assert text.words == sum(part.words for part in text.sections)
    assert length_score(24_000, text.words) > 90
    assert len(server.prompts) == 1 + len(text.plan.steps)
    assert text.prompt_tokens > text.completion_tokens > 20_000


def test_a_chinese_text_is_chinese() -> None:
    instruction = "写一篇3000字的港口史。"
    with Model() as server:
        text = write(server, instruction)
    assert main_language(text.text) == wanted_language(instruction) == "zh"
    assert length_score(3000, text.words) > 80


def test_without_a_length_the_plan_decides() -> None:
    with Model(answer=by_plan) as server:
        text = write(server, "Write about a harbour.")
    assert text.instruction.required is None
    assert "Total length: whatever the instruction needs" in server.prompts[0]
    assert text.plan.words == 1600
    assert text.record()["length_score"] is None


def test_an_explicit_length_takes_precedence() -> None:
    with Model(answer=by_plan) as server:
        text = write(server, length=3200)
    assert (text.plan.words, text.plan.scaled) == (3200, True)


# Retries


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param("I can't think of anything.", "no_plan", id="no-plan"),
        pytest.param("", "empty", id="empty"),
        pytest.param("I'm sorry, but I can't help with that.", "refused", id="refusal"),
        pytest.param((PLAN.format(400), "length"), "cut", id="cut"),
    ],
)
def test_an_unusable_plan_is_retried(bad: Any, reason: str) -> None:
    asked = 0

    def answer(prompt: str) -> Any:
        nonlocal asked
        asked += is_plan(prompt)
        return bad if is_plan(prompt) and asked < 3 else by_plan(prompt)

    with Model(answer=answer) as server:
        text = write(server)
    assert text.rejected_plans == (reason, reason)
    assert (text.planning_asks, len(server.prompts)) == (3, 3 + 4)


BAD_SECTIONS = [
    pytest.param("", "empty", id="empty"),
    pytest.param(" \n", "empty", id="blank"),
    pytest.param("I'm sorry, but I can't write that.", "refused", id="refusal"),
    pytest.param("抱歉，我无法完成这个请求。", "refused", id="refusal-zh"),
    pytest.param((section(2), "content_filter"), "refused", id="filtered"),
    pytest.param((section(2), "length"), "cut", id="cut"),
    pytest.param("Max tries. Failed.", "error_text", id="error-text"),
    pytest.param("Here is the next paragraph:", "nothing_new", id="talk-alone"),
    pytest.param(section(1), "nothing_new", id="said-before"),
    pytest.param("The tide comes in and the tide goes out. " * 40, "loop", id="loop"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_SECTIONS)
def test_an_unusable_section_is_retried(bad: Any, reason: str) -> None:
    asked = 0

    def answer(prompt: str) -> Any:
        nonlocal asked
        if is_plan(prompt) or step_of(prompt) != 2:
            return by_plan(prompt)
        asked += 1
        return bad if asked == 1 else by_plan(prompt)

    with Model(answer=answer) as server:
        text = write(server)
    assert text.text == "\n\n".join(section(n) for n in range(1, 5))
    assert [part.asks for part in text.sections] == [1, 2, 1, 1]
    assert text.sections[1].rejected == (reason,)
    assert text.rejected == Counter({reason: 1})


@pytest.mark.parametrize(("bad", "reason"), BAD_SECTIONS)
def test_a_text_fails_with_the_reason_if_a_section_stays_unusable(bad: Any, reason: str) -> None:
    def answer(prompt: str) -> Any:
        return bad if not is_plan(prompt) and step_of(prompt) == 2 else by_plan(prompt)

    with Model(answer=answer) as server:
        for run in (1, 2):  # rejected replies do not count as new ones in the next run
            with pytest.raises(WriteError, match="section 2 of 4") as failed:
                write(server)
            assert failed.value.reason == reason
            assert len(server.prompts) == 2 + run * MAX_TRIES
        server.answer = by_plan
        text = write(server)
    assert text.sections[1].asks == 2 * MAX_TRIES + 1


def test_a_text_fails_with_the_reason_if_the_plan_stays_unusable() -> None:
    with Model(answer=lambda _prompt: "A harbour.") as server:
        with pytest.raises(WriteError, match="plan: no_plan") as failed:
            write(server)
        assert (failed.value.reason, len(server.prompts)) == ("no_plan", MAX_TRIES)


# No call is made twice


def test_rewriting_a_finished_text_makes_no_calls() -> None:
    with Model() as server:
        first = write(server)
        paid = len(server.prompts)
        again = write(server)
    assert len(server.prompts) == paid
    assert again.text == first.text


def test_after_a_failure_only_the_missing_steps_are_requested() -> None:
    def failing(prompt: str) -> Any:
        return 400 if not is_plan(prompt) and step_of(prompt) == 3 else by_plan(prompt)

    with Model(answer=failing) as server:
        with pytest.raises(WriteError) as failed:
            write(server)
        assert (failed.value.reason, failed.value.place) == ("transport_error", "section 3 of 4")
        server.answer, paid = by_plan, len(server.prompts)
        assert len(write(server).sections) == 4
        assert len(server.prompts) == paid + 2


def test_parallel_steps_in_flight_are_kept_when_one_fails() -> None:
    def failing(prompt: str) -> Any:
        return 400 if not is_plan(prompt) and step_of(prompt) == 1 else by_plan(prompt)

    with Model(answer=failing, delay=0.1) as server:
        with pytest.raises(WriteError, match="section 1"):
            write(server, parallel=True)
        server.answer, paid = by_plan, len(server.prompts)
        write(server, parallel=True)
        assert len(server.prompts) == paid + 1


def test_a_text_written_at_another_address_is_not_paid_for_twice() -> None:
    with Model() as one, Model() as other:
        write(one)
        write(other)
    assert one.prompts
    assert other.prompts == []


def test_calls_stored_by_release_0_1_0_are_not_paid_for_again(tmp_path: Path) -> None:
    store, old = Store(), Store(tmp_path / "old")
    protocol: dict[str, Any] = {"temperature": 1.0, "max_tokens": 4096, "text": "", "ask": 1}
    with Model() as server:
        first = write(server)
        for prompt in server.prompts:
            parts = {"agentwrite": WRITER, "prompt": sha256(prompt), **protocol}
            reply = store.get(call_key(scope="", **parts))
            assert reply
            old.put(call_key(scope=server.base_url, **parts), reply)  # 0.1.0 had the address in it
        shutil.rmtree(store.folder)
        old.folder.rename(store.folder)
        paid = len(server.prompts)
        assert write(server).text == first.text
        assert len(server.prompts) == paid


# A text that outgrows the context


def overflowing(most: int) -> Any:
    """The answers of an endpoint that takes prompts of at most `most` characters."""

    def answer(prompt: str) -> Any:
        return OVERFLOW if len(prompt) > most else None

    return answer


@pytest.mark.parametrize("told", [True, False], ids=["context-is-given", "endpoint-says-so"])
def test_the_oldest_text_is_summarised_when_the_context_is_full(told: bool) -> None:
    instruction = "Write a 12,000-word history of harbours."
    most = 40_000  # characters; the mock server writes English: about 10,000 tokens
    with Model(answer=overflowing(most)) as server:
        text = write(server, instruction, context=most // 4 + 4096 if told else None)
    assert 0 < text.folded < len(text.sections)
    assert text.words > 11_000
    last = server.prompts[-1]
    assert len(last) <= most
    assert f" to {text.folded} of the plan are written, and given here as a summary.]" in last
    assert text.sections[-2].text in last
    assert text.sections[0].text not in last
    assert text.plan.text in last
    refused = sum(len(prompt) > most for prompt in server.prompts)
    assert refused == 0 if told else 0 < refused < 12
    summaries = [prompt for prompt in server.prompts if is_summary(prompt)]
    assert 1 <= len(summaries) <= 6  # half is folded at a time, not a little before each step
    assert text.sections[0].text in summaries[0]
    assert text.record()["folded"] == text.folded


def test_resuming_a_folded_text_makes_no_calls() -> None:
    with Model(answer=overflowing(30_000)) as server:
        first = write(server, "Write a 10,000-word history of harbours.")
        finished = sum(len(prompt) <= 30_000 for prompt in server.prompts)
        again = write(server, "Write a 10,000-word history of harbours.")
        assert sum(len(prompt) <= 30_000 for prompt in server.prompts) == finished
    assert again.text == first.text


@pytest.mark.parametrize("most", [10, 3_500], ids=["plan", "section"])
def test_a_context_too_small_for_a_prompt_fails_the_text(most: int) -> None:
    with Model(answer=overflowing(most)) as server, pytest.raises(WriteError) as failed:
        write(server)
    assert failed.value.reason == "context_overflow"


# Settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": "nonsense"}, "base_urls must be a URL"),
        ({"base_url": "http://me:hunter2@/v1"}, "base_urls must be a URL"),
        ({"model": " "}, "model must be text"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1"),
        ({"context": 5000}, "twice max_tokens"),
        ({"tempreature": 1}, "tempreature is unknown"),
        ({"prompts": "no/such/folder"}, "no prompts at"),
        ({"base_url": None}, "no key for m: set AGENTWRITE_API_KEY or OPENAI_API_KEY"),
    ],
)
def test_unusable_settings_give_one_clear_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        write_text("Write.", **{"model": "m", "base_url": "http://127.0.0.1:1/v1", **settings})
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["AGENTWRITE_API_KEY", "OPENAI_API_KEY"])
def test_the_key_comes_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"{KEY}\n")
    with Model(answer=by_plan, api_key=KEY) as server:
        assert write(server).words
