"""Users can edit plans and sections: plan, write --plan, rewrite, and the book folder."""

import json
from pathlib import Path

import pytest
import yaml
from support.model import WRITER, Model, by_plan, is_plan, section, step_of

from agentwrite import book as books
from agentwrite.book import book_lock, load_book, plan_yaml, read_plan_yaml
from agentwrite.cli.main import main
from agentwrite.writing.plan import Plan, Step
from longwriter_core.errors import InputError

HARBOUR = "Write 1600 words about a harbour."


def talkative(prompt: str) -> str:
    """Sections with a remark before them; a rewrite follows its note."""
    if "The author's note:" in prompt:
        return f"Rewritten {step_of(prompt)}: the pilot tells all of it in her own words."
    return by_plan(prompt) if is_plan(prompt) else f"Sure!\n\n{section(step_of(prompt))}"


def arguments(server: Model, *more: str) -> list[str]:
    return [*more, "--model", WRITER, "--base-url", server.base_url]


def write_book(server: Model, folder: Path) -> Path:
    assert main(arguments(server, "write", HARBOUR, "-o", str(folder / "text.md"))) == 0
    return folder / "text.book"


# plan, edit, write


def test_an_edited_plan_is_written_unchanged(tmp_path: Path) -> None:
    path, out = tmp_path / "plan.yaml", tmp_path / "text.md"
    with Model(answer=by_plan) as server:
        assert main(arguments(server, "plan", HARBOUR, "-o", str(path))) == 0
        assert len(server.prompts) == 1
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# The plan of one text. Edit it")
        data = yaml.safe_load(text)
        data["steps"][1]["main_point"] = "Smugglers"
        del data["steps"][3]
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        assert main(arguments(server, "write", "--plan", str(path), "-o", str(out))) == 0
        prompts = server.prompts[1:]
    assert not any(is_plan(prompt) for prompt in prompts)
    assert len(prompts) == 3
    assert "Paragraph 2 - Main Point: Smugglers - Word Count: 400 words" in prompts[0]
    assert out.read_text(encoding="utf-8") == "\n\n".join(map(section, (1, 2, 3))) + "\n"


def test_a_chapter_plan_round_trips_through_its_file(tmp_path: Path) -> None:
    steps = tuple(Step(n, f"淤积 {n}: it's “mud”", 300 + n) for n in range(1, 5))
    chapters = ((Step(1, "Mud", 603, "Chapter"), 1), (Step(2, "Money", 607, "Chapter"), 3))
    plan = Plan(steps, chapters=chapters)
    path = tmp_path / "plan.yaml"
    path.write_text(plan_yaml("Write: # all of it", plan), encoding="utf-8")
    read = read_plan_yaml(path)
    assert read.instruction == "Write: # all of it"
    assert read.plan == plan


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("instruction: Write.\nsteps: []", "steps"),
        ("instruction: Write.\nsteps:\n- main_point: Mud\n  words: many", "step 1, words"),
        ("instruction: Write.\nsteps:\n- main_point: Mud\n  words: 9000", "step 1, words"),
        ("instruction: Write.\nsteps:\n- main_pont: Mud\n  words: 90", "step 1, main_pont"),
        ("instruction: A.\nsteps:\n- {main_point: B, words: 9, chapter: ' '}", "step 1, chapter"),
        ("instruction: A.\nsteps:\n- main_point: B\n  words: 9\n  words: 8", "line 5: words is"),
        ("instruction: A.\ninstruction: B.\nsteps:\n- {main_point: B, words: 9}", "given twice"),
        ("- a\n- b", "the file"),
        ("a: [", "is not YAML"),
    ],
)
def test_an_invalid_plan_gives_one_clear_error(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_plan_yaml(path)


# The book's folder


def test_the_book_folder_holds_plan_and_sections(tmp_path: Path) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
    assert read_plan_yaml(book / "plan.yaml").instruction == HARBOUR
    names = sorted(path.name for path in (book / "sections").iterdir())
    assert names == ["001.md", "002.md", "003.md", "004.md"]
    assert (book / "sections" / "002.md").read_text(encoding="utf-8") == f"{section(2)}\n"
    record = json.loads((book / "book.json").read_text(encoding="utf-8"))
    assert record["settings"]["model"] == WRITER
    assert record["completion_tokens"] > 0
    removed = [json.loads(line) for line in (book / "removed.jsonl").read_text().splitlines()]
    assert removed == [{"section": n, "rule": "meta_talk", "removed": "Sure!"} for n in range(1, 5)]
    assert load_book(book).text == load_book(tmp_path / "text.md").text


def test_rerunning_a_command_reports_that_the_text_was_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=by_plan) as server:
        write_book(server, tmp_path)
        assert "comes from the store" not in capsys.readouterr().err
        calls = len(server.prompts)
        write_book(server, tmp_path)
        assert len(server.prompts) == calls
        printed = capsys.readouterr().err
        assert "The text comes from the store" in printed
        assert printed.count("words  stored") == 4


@pytest.mark.parametrize("another", [["--seed", "7"], ["--fresh"]])
def test_a_different_seed_writes_a_different_text(
    another: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=by_plan) as server:
        write_book(server, tmp_path)
        calls = len(server.prompts)
        given = arguments(server, "write", HARBOUR, "-o", str(tmp_path / "other.md"), *another)
        assert main(given) == 0
        assert len(server.prompts) == 2 * calls
        assert all("seed" in request.body for request in server.history[calls:])
    assert "to resume, replace --fresh by --seed" in capsys.readouterr().err or another[1:]


def test_progress_shows_planning_time_left_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model() as server:
        write_book(server, tmp_path)
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "planning …"
    assert printed[1].startswith("planned 4 sections, 1,600 words")
    assert " of 1,600 words" in printed[2]
    assert " s left" in printed[2]


def test_progress_shows_the_spend_of_a_model_with_a_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[mine.models]\n"{WRITER}" = [100.0, 400.0]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(prices))
    with Model() as server:
        write_book(server, tmp_path)
    printed = capsys.readouterr().err.splitlines()
    assert all("$" in line for line in printed[1:6])


# one book, one text


def test_another_text_does_not_replace_a_book(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "instruction: Tea.\nsteps:\n- {main_point: Pots, words: 400}\n", encoding="utf-8"
    )
    with Model(answer=by_plan) as server:
        book = write_book(server, tmp_path)
        calls, kept = len(server.prompts), (book / "book.json").read_bytes()
        md, html = str(tmp_path / "text.md"), str(tmp_path / "text.html")
        for given in (
            ["--plan", str(plan), "-o", md],
            ["--plan", str(plan), "-o", html],
            ["Write 1600 words about tea.", "-o", md],
            [HARBOUR, "--seed", "7", "-o", html],
            [HARBOUR, "--temperature", "0", "-o", html],
        ):
            assert main(arguments(server, "write", *given)) == 2
            assert "holds another text, text.md" in capsys.readouterr().err
        assert len(server.prompts) == calls
        assert (book / "book.json").read_bytes() == kept
        assert main(arguments(server, "write", HARBOUR, "--seed", "7", "-o", md)) == 0


def test_a_rewritten_book_is_exported_in_another_format(tmp_path: Path) -> None:
    html = tmp_path / "text.html"
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        rewrite = ["rewrite", str(book), "--note", "Sail.", "--base-url", server.base_url]
        assert main([*rewrite, "--sections", "1"]) == 0
        calls = len(server.prompts)
        for _ in range(2):
            assert main(arguments(server, "write", HARBOUR, "-o", str(html))) == 0
        assert len(server.prompts) == calls
        assert "Rewritten 1" in html.read_text(encoding="utf-8")
        assert main([*rewrite, "--sections", "2"]) == 0
    assert "Rewritten 2" in html.read_text(encoding="utf-8")
    assert "Rewritten 2" in (tmp_path / "text.md").read_text(encoding="utf-8")


def test_only_known_endings_are_left_out_of_the_folder_s_name() -> None:
    names = ["text.md", "text.HTML", "text.epub", "vol.1", "vol.2", "text"]
    folders = ["text.book", "text.book", "text.book", "vol.1.book", "vol.2.book", "text.book"]
    assert [books.book_path(Path(name)).name for name in names] == folders


def test_what_cannot_be_written_is_refused_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.book").write_text("a file", encoding="utf-8")
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "instruction: Tea.\nsteps:\n- {main_point: Pots, words: 400}\n", encoding="utf-8"
    )
    with Model(answer=by_plan) as server:
        for given, problem in (
            ([HARBOUR, "-o", str(tmp_path / "text.md")], "is a file, and the book's folder"),
            ([HARBOUR, "-o", str(tmp_path / "text.pdf")], "files are not made"),
            (["--plan", str(plan), "--length", "3000"], "add up to 400"),
        ):
            assert main(arguments(server, "write", *given)) == 2
            assert problem in capsys.readouterr().err
        assert server.prompts == []


def test_a_dry_run_of_a_fresh_text_counts_its_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=by_plan) as server:
        write_book(server, tmp_path)
        assert main(arguments(server, "write", HARBOUR, "--dry-run", "--fresh")) == 0
    assert "about 0 calls" not in capsys.readouterr().out


# rewrite


def test_a_rewrite_changes_and_pays_for_only_its_sections(tmp_path: Path) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        calls = len(server.prompts)
        given = ["rewrite", str(book), "--sections", "2-3", "--note", "Let the pilot tell it."]
        assert main([*given, "--base-url", server.base_url]) == 0
        first, second = server.prompts[calls:]
    assert "The author's note: Let the pilot tell it." in first
    assert section(1) in first.partition("(End of the text before")[0]
    assert section(4) in second.partition("The text goes on:")[2]
    assert "Rewritten 2" in second.partition("(End of the text before")[0]
    text = (tmp_path / "text.md").read_text(encoding="utf-8")
    pieces = [section(1), load_book(book).sections[1], load_book(book).sections[2], section(4)]
    assert text == "\n\n".join(pieces) + "\n"
    assert pieces[1].startswith("Rewritten 2")
    replaced = [json.loads(line) for line in (book / "replaced.jsonl").read_text().splitlines()]
    assert replaced == [{"section": n, "text": section(n)} for n in (2, 3)]


def test_an_interrupted_rewrite_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    def refusing(prompt: str) -> str:
        is_rewrite = "The author's note:" in prompt
        return (
            "I can't help with that." if is_rewrite and step_of(prompt) == 3 else talkative(prompt)
        )

    with Model(answer=refusing) as server:
        book = write_book(server, tmp_path)
        given = ["rewrite", str(book), "--sections", "2-3", "--note", "Sail.", "--base-url"]
        assert main([*given, server.base_url]) == 1
        server.answer = talkative
        calls = len(server.prompts)
        assert main([*given, server.base_url]) == 0
        assert [step_of(prompt) for prompt in server.prompts[calls:]] == [3]
        assert main([*given, server.base_url]) == 0  # the same wish again is another rewrite
        assert [step_of(prompt) for prompt in server.prompts[calls + 1 :]] == [2, 3]
    assert "rewrite" not in load_book(book).record


def test_a_kill_during_a_rewrite_pays_nothing_twice_and_changes_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_given: object) -> None:
        raise RuntimeError("killed before book.json was written")

    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        given = ["rewrite", str(book), "--sections", "2", "--note", "Sail.", "--base-url"]
        update = books.Book.update

        with monkeypatch.context() as begun:

            def begin(self: books.Book, **fields: object) -> None:
                update(self, **fields)
                begun.setattr(books, "_write_json", killed)

            begun.setattr(books.Book, "update", begin)
            with pytest.raises(RuntimeError):
                main([*given, server.base_url])
        calls = len(server.prompts)
        assert section(2) in load_book(book).text  # the new text is not counted yet
        assert main([*given, server.base_url]) == 0
        assert len(server.prompts) == calls
    assert load_book(book).sections[1].startswith("Rewritten 2")
    replaced = [json.loads(line) for line in (book / "replaced.jsonl").read_text().splitlines()]
    assert replaced == [{"section": 2, "text": section(2)}]


def test_a_new_rewrite_says_what_an_older_one_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        load_book(book).begin_rewrite({2: "Sail.", 3: "Sail."})
        (book / "sections" / "003.md").write_text("Not counted.", encoding="utf-8")
        given = ["rewrite", str(book), "--sections", "1-2", "--note", "Row."]
        assert main([*given, "--base-url", server.base_url]) == 0
    assert "did not reach sections 3, which stay as they were" in capsys.readouterr().err
    assert load_book(book).sections[2] == section(3)


def test_two_rewrites_of_one_book_do_not_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        calls = len(server.prompts)
        with book_lock(book):
            assert main(["rewrite", str(book), "--sections", "1", "--note", "Row."]) == 2
        assert len(server.prompts) == calls
    assert "is being changed by another process" in capsys.readouterr().err


def test_a_rewrite_keeps_the_length(tmp_path: Path) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        record = json.loads((book / "book.json").read_text(encoding="utf-8"))
        for counts in record["sections"]:
            counts |= {"words": 700, "requested": 500}
        (book / "book.json").write_text(json.dumps(record), encoding="utf-8")
        given = ["rewrite", str(book), "--sections", "1-2", "--note", "Sail.", "--base-url"]
        assert main([*given, server.base_url]) == 0
        asked = server.prompts[-2:]
    assert all("Word Count: 286 words" in prompt for prompt in asked)  # 400 / 1.4


@pytest.mark.parametrize("fault", ["a changed plan", "a missing section"])
def test_the_plan_in_the_book_can_be_changed_and_written(fault: str, tmp_path: Path) -> None:
    with Model(answer=by_plan) as server:
        book = write_book(server, tmp_path)
        plan = book / "plan.yaml"
        if fault == "a changed plan":
            data = yaml.safe_load(plan.read_text(encoding="utf-8"))
            del data["steps"][3]
            plan.write_text(yaml.safe_dump(data), encoding="utf-8")
        else:
            (book / "sections" / "002.md").unlink()
        out = tmp_path / "text.md"
        assert main(arguments(server, "write", "--plan", str(plan), "-o", str(out))) == 0
        assert len(load_book(book).sections) == (3 if fault == "a changed plan" else 4)


def test_following_sections_are_repaired_only_on_request(tmp_path: Path) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        calls = len(server.prompts)
        given = ["rewrite", str(book), "--sections", "2", "--note", "Sail.", "--repair"]
        assert main([*given, "--base-url", server.base_url]) == 0
        prompts = server.prompts[calls:]
    assert [step_of(prompt) for prompt in prompts] == [2, 3, 4]
    assert "Change only what contradicts them" not in prompts[0]
    assert all("Change only what contradicts them" in prompt for prompt in prompts[1:])


def test_writing_again_does_not_undo_a_rewrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        given = ["rewrite", str(book), "--sections", "1", "--note", "Sail."]
        assert main([*given, "--base-url", server.base_url]) == 0
        again = arguments(server, "write", HARBOUR, "-o", str(tmp_path / "text.md"))
        assert main(again) == 2
    assert "has rewritten sections, which would be lost" in capsys.readouterr().err


@pytest.mark.parametrize("sections", ["0", "3-2", "5", "2-", "all", ""])
def test_unknown_section_numbers_are_rejected(sections: str, tmp_path: Path) -> None:
    with Model(answer=talkative) as server:
        book = write_book(server, tmp_path)
        calls = len(server.prompts)
        assert main(["rewrite", str(book), "--sections", sections, "--note", "Sail."]) == 2
        assert len(server.prompts) == calls


def test_a_folder_without_a_book_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rewrite", str(tmp_path), "--sections", "1", "--note", "Sail."]) == 2
    assert "book.json is missing" in capsys.readouterr().err
