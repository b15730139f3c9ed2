"""The studio's API: texts are planned, edited, written, stopped, resumed and rewritten."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.model import (
    INSTRUCTION,
    WRITER,
    Model,
    by_plan,
    is_plan,
    section,
    step_of,
)
from support.studio import WAIT, Client, Gate, rewriting, studio, use_prices, using

from agentwrite.book import load_book
from agentwrite.cli.main import main
from agentwrite.server.serve import Server
from agentwrite.settings import Settings
from longwriter_core.files import write_atomically
from longwriter_core.llm import run_async

SHELF = "agentwrite.studio.shelf"
WHOLE = "\n\n".join(section(n) for n in range(1, 5))


def test_a_new_text_is_planned_and_not_written(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        book = await client.planned(title="  The   harbour ")
        return book, (await client.get("books"))["books"]

    with Model(answer=by_plan) as model:
        book, books = using(model, tmp_path, use)
        assert len(model.prompts) == 1
    assert [step["words"] for step in book["steps"]] == [400] * 4
    assert (book["name"], book["title"], book["written"]) == ("the-harbour", "The harbour", [])
    assert books == [
        {
            "name": "the-harbour",
            "title": "The harbour",
            "words": 0,
            "goal": 1600,
            "state": "planned",
        }
    ]


def test_an_edited_plan_is_written_as_the_command_writes_it(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        book = await client.planned()
        steps = [{**step, "words": 300} for step in book["steps"][1:]]
        steps[0] |= {"main_point": "Smugglers", "chapter": "Night"}
        await client.post(f"books/{book['name']}/plan", {"steps": steps})
        await client.post(f"books/{book['name']}/start")
        return await client.until(book["name"], "done")

    with Model(answer=by_plan) as model:
        book = using(model, tmp_path, use)
        calls = len(model.prompts)
        assert calls == 4
        path = tmp_path / f"{book['name']}.book"
        out = tmp_path / "again.md"
        given = ["write", "--plan", str(path / "plan.yaml"), "-o", str(out), "--model", WRITER]
        assert main([*given, "--base-url", model.base_url]) == 0
        assert len(model.prompts) == calls
    text = (tmp_path / f"{book['name']}.md").read_text(encoding="utf-8")
    assert text == out.read_text(encoding="utf-8")
    assert text.startswith("# Chapter 1: Night\n\n")
    assert [each["text"] for each in book["written"]] == [section(n) for n in (1, 2, 3)]
    assert not (path / "draft.json").exists()


def test_events_bring_the_plan_then_each_section_and_resume_after_the_last(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        book = await client.planned()
        name = book["name"]
        await client.post(f"books/{name}/start")
        events = await client.events(name, "done")
        await client.post(f"books/{name}/rewrite", {"sections": [2], "note": "Sail."})
        await client.until(name, "done")
        return events, await client.events(name, "done", last=events[-1][0])

    with Model(answer=rewriting) as model:
        events, more = using(model, tmp_path, use)
    assert [event for _, event, _ in events if event != "book"] == ["plan", *["section"] * 4]
    assert [data["text"] for _, event, data in events if event == "section"] == WHOLE.split("\n\n")
    changed = [data for _, event, data in more if event != "book"]
    assert [data["number"] for data in changed] == [2]
    assert changed[0]["text"].startswith("Rewritten 2")


def test_stop_keeps_the_call_in_flight_and_resume_makes_only_the_missing_calls(
    tmp_path: Path,
) -> None:
    gate = Gate(2)

    async def use(client: Client) -> Any:
        name = (await client.planned())["name"]
        await client.post(f"books/{name}/start")
        await client.until(name, lambda book: book["sections"] == 1)
        assert (await client.post(f"books/{name}/stop"))["state"] == "stopping"
        gate.opened.set()
        stopped = await client.until(name, "stopped")
        await client.post(f"books/{name}/start")
        return stopped, await client.until(name, "done")

    with Model(answer=gate) as model:
        stopped, done = using(model, tmp_path, use)
        assert len(model.prompts) == 5
    assert (stopped["error"], stopped["sections"]) == ("", 2)
    assert done["spent"]["calls"] == 5


def test_a_second_stop_ends_at_once(tmp_path: Path) -> None:
    model = Model(answer=by_plan)

    async def use(client: Client) -> Any:
        name = (await client.planned())["name"]
        model.delay = 60
        await client.post(f"books/{name}/start")
        await client.post(f"books/{name}/stop")
        await client.post(f"books/{name}/stop")
        return await client.until(name, lambda book: book["state"] in ("planned", "stopped"))

    with model:
        assert using(model, tmp_path, use)["sections"] == 0


def test_another_server_shows_what_is_written_and_resumes_it(tmp_path: Path) -> None:
    """The first server ends in the middle, as by a kill: only files are left."""
    gate = Gate(3)

    async def use() -> tuple[Any, Any]:
        async with studio(model, tmp_path) as client:
            name = (await client.planned())["name"]
            await client.post(f"books/{name}/start")
            await client.until(name, lambda book: book["sections"] == 2)
        gate.opened.set()
        async with studio(model, tmp_path) as client:
            shown = await client.book(name)
            await client.post(f"books/{name}/start")
            return shown, await client.until(name, "done")

    with Model(answer=gate) as model:
        shown, done = run_async(use())
        assert len(model.prompts) <= 6  # the call in flight is made again
    assert shown["state"] == "stopped"
    assert [each["text"] for each in shown["written"]] == [section(1), section(2)]
    assert "\n\n".join(each["text"] for each in done["written"]) == WHOLE
    assert done["spent"]["calls"] == 5


def test_the_server_ends_while_pages_listen(tmp_path: Path) -> None:
    async def use() -> None:
        settings = Settings.resolve(model=WRITER, base_urls=(model.base_url,))
        async with aiohttp.ClientSession() as session, asyncio.timeout(WAIT):
            async with Server(settings, port=0, books=tmp_path) as server:
                name = (await Client(session, server).planned())["name"]
                listening = await session.get(f"{server.url}/studio/books/{name}/events")
            listening.close()

    with Model(answer=by_plan) as model:
        run_async(use())


def test_the_same_instruction_twice_comes_from_the_store_and_a_seed_makes_another(
    tmp_path: Path,
) -> None:
    async def use(client: Client) -> Any:
        return [await client.written(), await client.written(), await client.written(seed=7)]

    with Model(answer=by_plan) as model:
        first, same, other = using(model, tmp_path, use)
        assert len(model.prompts) == 10
    assert [book["comes_from_store"] for book in (first, same, other)] == [False, True, False]
    assert [book["spent"]["calls"] for book in (first, same, other)] == [5, 0, 5]
    assert len({first["name"], same["name"], other["name"]}) == 3


def test_the_money_spent_is_kept_over_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_prices(tmp_path, monkeypatch)

    async def use() -> Any:
        async with studio(model, tmp_path) as client:
            done = await client.written()
        async with studio(model, tmp_path) as client:
            return done, await client.book(done["name"])

    with Model(answer=by_plan) as model:
        done, again = run_async(use())
    spent = done["spent"]
    expected = (spent["prompt_tokens"] * 100 + spent["completion_tokens"] * 400) / 1e6
    assert spent["usd"] == pytest.approx(expected)
    assert again["spent"] == spent


# Rewriting


def test_a_rewrite_changes_and_pays_for_its_sections_alone(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        name = (await client.written())["name"]
        asked = {"sections": [2, 3], "note": "Let the pilot tell it."}
        await client.post(f"books/{name}/rewrite", asked)
        return await client.until(name, "done")

    with Model(answer=rewriting) as model:
        book = using(model, tmp_path, use)
        assert len(model.prompts) == 7
    texts = [each["text"] for each in book["written"]]
    assert (texts[0], texts[3]) == (section(1), section(4))
    assert [text[:11] for text in texts[1:3]] == ["Rewritten 2", "Rewritten 3"]
    file = (tmp_path / f"{book['name']}.md").read_text(encoding="utf-8")
    assert file == "\n\n".join(texts) + "\n"
    assert load_book(tmp_path / f"{book['name']}.book").sections == texts


def test_a_repair_that_was_interrupted_goes_on_with_what_is_left(tmp_path: Path) -> None:
    gate = Gate(3, rewriting, sign="The author's note:")

    async def use() -> Any:
        async with studio(model, tmp_path) as client:
            name = (await client.written())["name"]
            asked = {"sections": [1], "note": "Sail.", "repair": True}
            await client.post(f"books/{name}/rewrite", asked)
            await client.until(name, lambda book: len(book["rewrite_left"]) == 2)
        gate.opened.set()
        async with studio(model, tmp_path) as client:
            assert (await client.book(name))["state"] == "stopped"
            await client.post(f"books/{name}/start")
            return await client.until(name, "done")

    with Model(answer=gate) as model:
        book = run_async(use())
        assert len(model.prompts) <= 5 + 4 + 1
    assert all(each["text"].startswith("Rewritten") for each in book["written"])


def test_a_text_of_the_command_can_be_rewritten_and_changes_from_outside_are_shown(
    tmp_path: Path,
) -> None:
    async def use(client: Client) -> Any:
        before = await client.book("text")
        given = ["rewrite", str(tmp_path / "text.book"), "--sections", "2", "--note", "Sail."]
        assert await asyncio.to_thread(main, [*given, "--base-url", model.base_url]) == 0
        outside = await client.book("text")
        await client.post("books/text/rewrite", {"sections": [3], "note": "Sail."})
        return before, outside, await client.until("text", "done")

    with Model(answer=rewriting) as model:
        out = str(tmp_path / "text.md")
        given = ["write", INSTRUCTION, "-o", out, "--model", WRITER]
        assert main([*given, "--base-url", model.base_url]) == 0
        shown = using(model, tmp_path, use)
    rewritten = [
        [each["number"] for each in book["written"] if each["text"].startswith("Rewritten")]
        for book in shown
    ]
    assert rewritten == [[], [2], [2, 3]]


# Faults


def test_an_error_is_shown_and_the_text_can_be_resumed(tmp_path: Path) -> None:
    def refusing(prompt: str) -> str:
        is_third = not is_plan(prompt) and step_of(prompt) == 3
        return "I can't help with that." if is_third else by_plan(prompt)

    model = Model(answer=refusing)

    async def use(client: Client) -> Any:
        name = (await client.planned())["name"]
        await client.post(f"books/{name}/start")
        failed = await client.until(name, "stopped")
        model.answer = by_plan
        await client.post(f"books/{name}/start")
        return failed, await client.until(name, "done")

    with model:
        failed, done = using(model, tmp_path, use)
    assert failed["error"].startswith("section 3 of 4: refused")
    assert (failed["sections"], done["error"], done["sections"]) == (2, "", 4)


def test_a_key_that_was_wrong_needs_no_new_server(tmp_path: Path) -> None:
    model = Model(answer=lambda _prompt: 401)

    async def use(client: Client) -> Any:
        name = (await client.post("books", {"instruction": INSTRUCTION}))["name"]
        failed = await client.until(name, lambda book: book["error"])
        model.answer = by_plan
        await client.post(f"books/{name}/start")
        return failed, await client.until(name, "planned")

    with model:
        failed, planned = using(model, tmp_path, use)
    assert "401" in failed["error"]
    assert planned["error"] == ""


def test_a_full_disk_stops_the_text_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "002.md":
            raise OSError(28, "No space left on device")
        write_atomically(path, data)

    async def use(client: Client) -> Any:
        name = (await client.planned())["name"]
        monkeypatch.setattr(f"{SHELF}.write_atomically", full)
        await client.post(f"books/{name}/start")
        failed = await client.until(name, "stopped")
        monkeypatch.setattr(f"{SHELF}.write_atomically", write_atomically)
        await client.post(f"books/{name}/start")
        return failed, await client.until(name, "done")

    with Model(answer=by_plan) as model:
        failed, _ = using(model, tmp_path, use)
        assert len(model.prompts) == 5
    assert "No space left" in failed["error"]


def test_two_servers_do_not_write_one_text(tmp_path: Path) -> None:
    gate = Gate(1)

    async def use() -> Any:
        async with studio(model, tmp_path) as one, studio(model, tmp_path) as two:
            name = (await one.planned())["name"]
            await one.post(f"books/{name}/start")
            await two.post(f"books/{name}/start")
            refused = await two.until(name, lambda book: book["error"])
            gate.opened.set()
            await one.until(name, "done")
            return refused

    with Model(answer=gate) as model:
        assert "is being changed by another process" in run_async(use())["error"]
        assert len(model.prompts) == 5


def test_a_draft_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    gate = Gate(2)

    async def use() -> Any:
        async with studio(model, tmp_path) as client:
            name = (await client.planned())["name"]
            await client.post(f"books/{name}/start")
            await client.until(name, lambda book: book["sections"] == 1)
        gate.opened.set()
        async with studio(model, tmp_path, settings={"temperature": 0.5}) as client:
            return await client.send("POST", f"books/{name}/start", {})

    with Model(answer=gate) as model:
        status, answer = run_async(use())
    assert status == 400
    assert "begun with temperature 1.0" in answer["error"]["message"]


def test_a_damaged_folder_is_listed_and_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.book").mkdir()
    (tmp_path / "bad.book" / "draft.json").write_text("{")
    (tmp_path / "worse.book").mkdir()
    (tmp_path / "worse.book" / "book.json").write_text('{"words": []}')
    (tmp_path / "empty.book").mkdir()

    async def use(client: Client) -> Any:
        listed = (await client.get("books"))["books"]
        answers = [await client.send("GET", f"books/{name}") for name in ("bad", "worse")]
        return listed, answers, await client.send("GET", "books/empty")

    with Model() as model:
        listed, answers, missing = using(model, tmp_path, use)
    assert {book["name"]: book["state"] for book in listed} == {
        "bad": "unreadable", "worse": "unreadable",
    }  # fmt: skip
    assert [status for status, _ in answers] == [400, 400]
    assert missing[0] == 404
