"""Story state and critic: what prompts show, which findings count, and what a rerun pays for."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.model import WRITER, Model
from support.studio import Client, using

from agentwrite.cli.main import main
from agentwrite.estimate import estimate_text
from agentwrite.settings import Settings
from agentwrite.story.critic import Finding, read_findings, review
from agentwrite.story.state import NewFacts, StoryState, StoryUpdate, read_update
from agentwrite.write import write_text
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.state import Instruction, Text
from longwriter_core.errors import InputError
from longwriter_core.llm import Rejected, Store

INSTRUCTION = "Write a 1200-word story about a harbour."


def write(server: Model, **settings: Any) -> Text:
    return write_text(INSTRUCTION, model=WRITER, base_url=server.base_url, **settings)


def update(**fields: Any) -> StoryUpdate:
    empty: dict[str, Any] = {name: [] for name in StoryUpdate.model_fields}
    return StoryUpdate(**(empty | fields))


def finding(quote: str, problem: str = "It contradicts the plan.") -> Finding:
    return Finding(quote=quote, problem=problem, suggestion="Say so.")


# State


def test_updates_are_merged_by_name_and_said_once() -> None:
    state = StoryState()
    mara = NewFacts(name="Mara", facts=["keeps the light", "is forty"])
    state.add(update(people=[mara], facts=["The war is over."]), 1)
    later = NewFacts(name="mara ", facts=["Is forty.", "lost a brother"])
    state.add(update(people=[later], facts=["the war is over"]), 4)
    (person,) = state.people
    assert (person.name, person.section) == ("Mara", 4)
    assert person.facts == ["keeps the light", "is forty", "lost a brother"]
    assert len(state.facts) == 1


def test_a_closed_thread_is_shown_no_more() -> None:
    state = StoryState()
    state.add(update(threads_opened=["Who sank the boat?", "Will she leave?"]), 1)
    state.add(update(threads_closed=["who sank the boat?", "something else"]), 2)
    assert [thread.closed for thread in state.threads] == [2, None]
    assert state.shown() == "Open threads:\n- Will she leave?"


@pytest.mark.parametrize("limit", [50, 300, 1_000])
def test_a_prompt_shows_the_latest_entries_in_bounded_size(limit: int) -> None:
    state = StoryState()
    for number in range(1, 2_000):
        person = NewFacts(name=f"P{number}", facts=[f"is number {number} of many people here"])
        state.add(
            update(people=[person], facts=[f"Fact {number} is so."], threads_opened=[f"{number}?"]),
            number,
        )
    shown = state.shown(limit)
    assert estimate_tokens(shown) <= limit + 20  # and the headings
    assert "P1999: is number 1999" in shown
    assert "P1:" not in shown
    numbers = [int(number) for number in re.findall(r"P(\d+):", shown)]
    assert numbers == sorted(numbers)


def test_an_update_of_absurd_size_is_cut() -> None:
    state = StoryState()
    state.add(update(facts=["x" * 100_000, " \n ", ""], people=[NewFacts(name="", facts=["y"])]), 1)
    assert [len(fact.text) for fact in state.facts] == [300]
    assert state.people == []


@pytest.mark.parametrize("reply", ["", "No.", "{", '{"people": "Mara"}', '{"findings": [1]}'])
def test_a_reply_of_another_form_is_rejected(reply: str) -> None:
    assert isinstance(read_update(reply), Rejected)
    assert isinstance(read_findings(reply), Rejected)


def test_json_with_talk_around_it_is_read() -> None:
    found = read_findings(
        '<think>{"findings": 1}</think>Sure:\n```json\n{"findings": []}\n```\nDone.'
    )
    assert not isinstance(found, Rejected)
    assert found.findings == []


# Findings

SECTION = 'The keeper said "no" to the mate.\nThen he rowed home, slowly, in the dark.'


@pytest.mark.parametrize(
    ("quote", "is_accepted"),
    [
        ("he rowed home, slowly", True),
        ("“he rowed home, slowly”", True),
        ("to the mate. Then he rowed", True),  # a line break is white space
        ("The keeper said “no” to", True),
        ("he rowed home slowly", False),
        ("he rowed … in the dark", False),
        ("He rowed home", False),
        ("the dark", False),  # too short to name a place
        ("", False),
    ],
)
def test_only_a_verbatim_quote_counts(quote: str, is_accepted: bool) -> None:
    reviewed = review(SECTION, [finding(quote)])
    assert bool(reviewed.accepted) is is_accepted
    assert bool(reviewed.rejected) is not is_accepted


def test_a_finding_without_a_problem_does_not_count() -> None:
    assert not review(SECTION, [finding("he rowed home, slowly", " ")]).accepted


def test_at_most_five_places_are_rewritten() -> None:
    reviewed = review(SECTION, [finding("he rowed home, slowly")] * 9)
    assert (len(reviewed.accepted), len(reviewed.rejected)) == (5, 4)
    assert reviewed.note.count("he rowed home") == 5


def test_chinese_quotes_are_counted_in_characters() -> None:
    assert review("他慢慢地划船回家。", [finding("划船回家")]).accepted
    assert not review("他慢慢地划船回家。", [finding("回家")]).accepted


# Texts of the mock writer


def kind(prompt: str) -> str:
    opening = prompt.partition(".")[0]
    kinds = {
        "You keep the notes": "state", "You are the editor": "critic",
        "You rewrite one section": "rewrite", "You write a long text": "write",
    }  # fmt: skip
    return next((name for start, name in kinds.items() if opening.startswith(start)), "plan")


def test_each_prompt_shows_what_earlier_sections_have_established() -> None:
    with Model() as server:
        text = write(server, story=True)
    kinds = [kind(prompt) for prompt in server.prompts]
    assert kinds == ["plan", *["write", "state"] * len(text.sections)]
    story = StoryState.model_validate(text.record()["story"])
    assert story.people
    assert story.threads
    first, *later = (prompt for prompt in server.prompts if kind(prompt) == "write")
    assert "[Notes on what" not in first
    for prompt in later:
        assert "[Notes on what the text has established; they are not part of it.]" in prompt
        assert "\nPeople:\n- " in prompt
    assert f"- {story.people[0].name}" in later[0]
    assert text.prompt_tokens > sum(section.prompt_tokens for section in text.sections)


def test_a_section_is_rewritten_where_the_critic_quotes_it() -> None:
    with Model() as server:
        text = write(server, critic=True)
    findings = text.record()["findings"]
    sections = {section.number: section for section in text.sections}
    assert {True, False} == {found["accepted"] for found in findings}
    rewrites = [prompt for prompt in server.prompts if kind(prompt) == "rewrite"]
    accepted = {found["section"] for found in findings if found["accepted"]}
    assert len(rewrites) == len(accepted)
    for prompt, number in zip(rewrites, sorted(accepted), strict=True):
        draft = re.findall(r"as it is:\n\n(.*)\n\n\(End of the section", prompt, re.DOTALL)[0]
        quotes = [found["quote"] for found in findings if found["section"] == number]
        note = prompt.partition("The author's note:")[2]
        assert {quote in " ".join(draft.split()) for quote in quotes if quote in note} == {True}
        assert sections[number].text != draft
        assert sections[number].asks == 2
    assert text.words == pytest.approx(1_200, rel=0.1)


@pytest.mark.parametrize(
    "settings", [{"story": True}, {"critic": True}, {"story": True, "critic": True}]
)
def test_a_rerun_gives_the_same_text_and_pays_for_nothing(settings: dict[str, bool]) -> None:
    with Model() as server:
        first = write(server, **settings)
        paid = len(server.prompts)
        again = write(server, **settings)
        assert len(server.prompts) == paid
    assert again.record() == first.record()


@pytest.mark.parametrize("failing", ["state", "critic", "rewrite"])
def test_after_a_failure_only_the_missing_calls_are_made(failing: str) -> None:
    options = {"story": True, "critic": True}
    with Model() as undisturbed:
        expected = write(undisturbed, **options)

    def answer(prompt: str) -> Any:
        seen = [kind(earlier) for earlier in server.prompts]
        return 400 if kind(prompt) == failing and seen.count(failing) == 2 else None

    with Model(answer=answer) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGWRITER_CACHE", str(Path(Store().folder.parent, "other")))
        with pytest.raises(Exception, match="400"):
            write(server, **options)
        server.answer = lambda _prompt: None
        text = write(server, **options)
        assert len(server.prompts) == len(undisturbed.prompts) + 1
    assert text.record() == expected.record()


@pytest.mark.parametrize("way", ["chat", "studio"])
def test_the_server_makes_the_calls_of_the_command(way: str, tmp_path: Path) -> None:
    options = {"story": True, "critic": True}
    with Model() as commanded:
        write(commanded, **options)

    async def use(client: Client) -> Any:
        if way == "studio":
            return await client.written(instruction=INSTRUCTION)
        messages = [{"role": "user", "content": INSTRUCTION}]
        body = {"model": f"agentwrite/{WRITER}", "messages": messages}
        url = f"{client.server.base_url}/chat/completions"
        async with client.session.post(url, json=body) as answer:
            return await answer.json()

    with Model() as served, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGWRITER_CACHE", str(tmp_path / "store"))
        using(served, tmp_path / "books", use, plan_from=1_000, settings=options)
    assert [kind(prompt) for prompt in served.prompts] == [
        kind(prompt) for prompt in commanded.prompts
    ]


def test_an_endpoint_without_structured_output_is_asked_for_json() -> None:
    reply = {"people": [{"name": "Mara", "facts": ["rows"]}], "places": [], "facts": [],
             "threads_opened": [], "threads_closed": []}  # fmt: skip

    def answer(prompt: str) -> str | None:
        return f"Here:\n{json.dumps(reply)}" if kind(prompt) == "state" else None

    with Model(answer=answer, refuses=("response_format",)) as server:
        text = write(server, story=True)
    assert text.record()["story"]["people"] == [{"name": "Mara", "facts": ["rows"], "section": 1}]


def test_the_dry_run_counts_the_calls() -> None:
    options: dict[str, Any] = {"story": True, "critic": True}
    with Model() as server:
        settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,), **options)
        expected = estimate_text(Instruction("", INSTRUCTION, 1_200), settings, Store())
        assert not server.prompts
        write(server, **options)
    assert expected.calls == pytest.approx(len(server.prompts), rel=0.1)


def test_both_are_off_by_default_and_need_texts_written_in_order() -> None:
    settings = Settings.resolve(model="m", base_urls=("http://127.0.0.1:1/v1",))
    assert not settings.story
    assert not settings.critic
    with pytest.raises(InputError, match="parallel must be off"):
        Settings.resolve(model="m", parallel=True, story=True)


def test_the_book_keeps_state_and_findings(tmp_path: Path) -> None:
    book = tmp_path / "text.book"
    with Model() as server:
        given = ["write", INSTRUCTION, "--model", WRITER, "--base-url", server.base_url]
        given += ["-o", str(tmp_path / "text.md")]
        assert main([*given, "--story", "--critic"]) == 0
        story = StoryState.model_validate_json((book / "story.json").read_bytes())
        assert story.people
        findings = (book / "findings.jsonl").read_text(encoding="utf-8").splitlines()
        assert all("accepted" in json.loads(line) for line in findings)
        assert main([*given, "--seed", "2"]) == 0  # without them, nothing stale is left
    assert not (book / "story.json").exists()
    assert not (book / "findings.jsonl").exists()
