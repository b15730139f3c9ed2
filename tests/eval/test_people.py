"""People's choices between two runs: the page, the file, and what `compare` makes of it."""

import json
import math
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.browser import axe_source, chromium, violations, wait_until
from support.commands import command
from support.logs import Answer, Log, words

from longwriter_core.errors import InputError
from longwriter_core.llm import run_async
from longwriter_eval.cli.main import main
from longwriter_eval.people.agreement import PeopleSummary
from longwriter_eval.people.choices import (
    Choices,
    Pair,
    pairs_of,
    read_choices,
    valid_choices,
)
from longwriter_eval.people.server import AnnotationServer
from longwriter_eval.runs import load_run

__all__ = ["chromium"]

SAYS = "text => document.getElementById('progress').textContent.includes(text)"
HOSTILE = "<script>document.title = 'taken'</script> **bold** [x](javascript:alert(1))"


def runs(folder: Path, number: int = 12, grades: tuple[int, int] = (2, 4)) -> tuple[str, str]:
    """Two runs whose responses say which run they are from; the first prompt has equal ones."""
    for name, grade in zip("ab", grades, strict=True):
        texts = ["The same."] + [f"Text {name}{i}. {words(40 + i)}" for i in range(1, number)]
        ids = [f"longwrite_demo/{i:03d}" for i in range(number)]
        given = {id: Answer(text, (grade,)) for id, text in zip(ids, texts, strict=True)}
        Log(given).write(folder / name)
    return str(folder / "a"), str(folder / "b")


def pairs(number: int = 20) -> list[Pair]:
    return [Pair(f"demo/{i:03d}", f"Write {i}.", f"A {i}", f"B {i}") for i in range(number)]


# Which pairs, in which order, on which side


def test_equal_responses_are_no_pair(tmp_path: Path) -> None:
    a, b = (load_run(Path(path)) for path in runs(tmp_path))
    assert len(pairs_of(a, b)) == 11
    with pytest.raises(InputError, match="no prompt with two different responses"):
        pairs_of(a, a)


def test_order_is_the_same_for_all_and_sides_are_not(tmp_path: Path) -> None:
    one, again, other = (Choices(given, tmp_path / "c", seed) for given, seed in (
        (pairs(), 0), (pairs()[::-1], 0), (pairs(), 1),
    ))  # fmt: skip
    assert one.pairs == again.pairs != other.pairs
    sides = {p: "".join(one.left(p, pair) for pair in one.pairs) for p in ("kim", "lee")}
    assert sides["kim"] != sides["lee"]
    assert sides["kim"] == "".join(again.left("kim", pair) for pair in again.pairs)
    many = Choices(pairs(2_000), tmp_path / "c")
    left_is_a = sum(many.left("kim", pair) == "a" for pair in many.pairs)
    assert 900 < left_is_a < 1_100


# The file


def test_a_choice_survives_a_restart_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    first = Choices(pairs(), path)
    for better in ("left", "right"):
        first.choose("kim", first.pairs[3], better, 2.5)
    with path.open("ab") as file:
        file.write(b'{"id": "demo/001", "per')  # killed while it wrote
    again = Choices(pairs(), path)
    assert len(again) == 1
    assert again.shown("kim", again.pairs[3]) == "right"
    assert again.shown("lee", again.pairs[3]) is None
    again.choose("kim", again.pairs[4], "tie", None)
    assert [choice.better for choice in read_choices(path)][-1] == "tie"
    assert len(read_choices(path)) == 3


def test_swapped_runs_swap_the_choices_and_other_texts_do_not_count(tmp_path: Path) -> None:
    choices = Choices(pairs(3), tmp_path / "c")
    for pair in choices.pairs:
        choices.choose("kim", pair, "left", None)
    made = read_choices(tmp_path / "c")
    straight = valid_choices(pairs(3), made)
    swapped = valid_choices([Pair(p.id, p.instruction, p.b, p.a) for p in pairs(3)], made)
    turned = {"a": "b", "b": "a"}
    assert swapped == {id: {"kim": turned[given["kim"]]} for id, given in straight.items()}
    assert valid_choices([Pair(p.id, p.instruction, p.a, "new") for p in pairs(3)], made) == {}


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        '{"id": "x"}',
        '{"id":"x","person":"k","better":"c","left":"a","a_sha256":"0","b_sha256":"0"}',
        '{"id":1,"person":"k","better":"a","left":"a","a_sha256":"0","b_sha256":"0"}',
        "no JSON",
    ],
)
def test_a_line_that_is_no_choice_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=r"c\.jsonl, line 1"):
        read_choices(path)


# What the choices say


def test_the_majority_decides_a_prompt() -> None:
    choices: Any = {
        "1": {"kim": "b", "lee": "b", "max": "a"},
        "2": {"kim": "a", "lee": "b"},
        "3": {"kim": "tie", "lee": "b"},
        "4": {"kim": "a"},
    }
    judges: Any = {"judge": {"1": "b", "2": "a", "3": "a", "4": "tie"}}
    found = PeopleSummary.of(["1", "2", "3", "4", "5"], choices, judges)
    assert (found.choices, found.people, found.a, found.b, found.ties) == (8, 3, 1, 2, 1)
    assert found.unjudged == 1
    assert (found.win_rate.mean, found.win_rate.n) == (2 / 3, 3)
    (judge,) = found.judges  # agrees on 1, not on 3; 2 is a tie of people, 4 one of the judge
    assert (judge.same.mean, judge.same.n, judge.undecided) == (0.5, 2, 1)


def test_agreement_among_people_is_one_for_equal_and_low_for_random_answers() -> None:
    sides = ["a", "b", "tie"]
    equal: Any = {str(i): dict.fromkeys(("kim", "lee"), sides[i % 3]) for i in range(30)}
    mixed: Any = {str(i): {"kim": sides[i % 3], "lee": sides[i // 3 % 3]} for i in range(36)}
    alike, random = (PeopleSummary.of(list(given), given, {}) for given in (equal, mixed))
    assert alike.agreement.mean == 1
    assert abs(random.agreement.mean) < 0.1
    assert random.agreement.low < 0 < random.agreement.high
    alone: Any = {"1": {"kim": "a"}}
    assert PeopleSummary.of(["1"], alone, {}).agreement.n == 0


def chosen(folder: Path, a: str, b: str, people: dict[str, str]) -> Path:
    """A file in which each person prefers one run ("a" or "b") everywhere."""
    path = folder / "choices.jsonl"
    choices = Choices(pairs_of(load_run(Path(a)), load_run(Path(b))), path)
    for person, run in people.items():
        for pair in choices.pairs:
            choices.choose(
                person, pair, "left" if choices.left(person, pair) == run else "right", 1
            )
    return path


def test_compare_reports_win_rate_and_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = runs(tmp_path)
    path = chosen(tmp_path, a, b, {"kim": "b", "lee": "b", "max": "a"})
    assert main(["compare", a, b, "--people", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "People: 33 choices by 3 people; by majority A 0, B 11, ties 0." in printed
    assert "B wins 100% [72%, 100%] of the prompts that are no tie (p = 0.0010)." in printed
    assert "Agreement among people: Krippendorff's alpha -0.45" in printed
    assert "gpt-judge prefers the same text as people on 100% [72%, 100%] of 11 prompts" in printed
    assert main(["compare", b, a, "--people", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["people"]
    assert (report["a"], report["b"], report["win_rate"]["mean"]) == (11, 0, 0)


def test_compare_refuses_choices_about_other_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = runs(tmp_path)
    path = chosen(tmp_path, a, b, {"kim": "b"})
    given = {f"longwrite_demo/{i:03d}": Answer(f"Other {i}.") for i in range(12)}
    Log(given).write(tmp_path / "c")
    assert main(["compare", a, str(tmp_path / "c"), "--people", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no choice is about the responses of" in line
    assert main(["compare", a, b, "--people", str(tmp_path / "none.jsonl")]) == 2


# The server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Choices]]:
    """The page's address, and the choices behind it."""
    choices = Choices([*pairs(3), Pair("x", HOSTILE, HOSTILE, "# Title\n\nText.")], tmp_path / "c")
    started, stopped = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve() -> None:
        import asyncio

        async with AnnotationServer(choices, port=0) as server:
            address.append(server.url)
            started.set()
            while not stopped.is_set():
                await asyncio.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_async, serve())
        assert started.wait(20)
        yield address[0], choices
        stopped.set()
        done.result(20)


def ask(url: str, body: object = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] in "{[" and text else text
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())["error"]["message"]


def test_a_choice_is_on_disk_before_the_answer(served: tuple[str, Choices]) -> None:
    url, choices = served
    body = {"person": " kim ", "pair": 1, "better": "left", "seconds": 12.34}
    assert ask(f"{url}choices", body)[0] == 204
    (made,) = read_choices(choices.path)
    pair = choices.pairs[1]
    assert (made.person, made.id, made.seconds) == ("kim", pair.id, 12.3)
    assert made.better == made.left == choices.left("kim", pair)
    assert ask(f"{url}pairs?person=kim")[1] == {"choices": [None, "left", None, None]}


def test_the_page_never_learns_which_run_a_text_is_from(served: tuple[str, Choices]) -> None:
    url, choices = served
    status, sent = ask(f"{url}pairs/0?person=kim")
    pair = choices.pairs[0]
    assert status == 200
    assert sent.keys() == {"instruction", "left", "right"}
    assert sent["left"] == (pair.a if choices.left("kim", pair) == "a" else pair.b)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"pair": 0, "better": "left"},
        {"person": "  ", "pair": 0, "better": "left"},
        {"person": "kim", "pair": 4, "better": "left"},
        {"person": "kim", "pair": -1, "better": "left"},
        {"person": "kim", "pair": "0", "better": "left"},
        {"person": "kim", "pair": 0, "better": "a"},
        {"person": "kim", "pair": 0, "better": ["left"]},
    ],
)
def test_a_bad_choice_is_refused_and_not_written(served: tuple[str, Choices], body: object) -> None:
    url, choices = served
    assert ask(f"{url}choices", body)[0] == 400
    assert not choices.path.exists()


def test_other_sites_and_other_names_are_refused(served: tuple[str, Choices]) -> None:
    url, choices = served
    body = {"person": "kim", "pair": 0, "better": "left"}
    assert ask(f"{url}choices", body, Origin="https://evil.example")[0] == 403
    assert ask(f"{url}pairs/0?person=kim", Host="rebound.example")[0] == 403
    assert not choices.path.exists()


def test_a_full_disk_is_reported_and_the_choice_does_not_count(
    served: tuple[str, Choices], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, choices = served

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("longwriter_eval.people.choices.append_jsonl", fail)
    status, said = ask(f"{url}choices", {"person": "kim", "pair": 0, "better": "left"})
    assert status == 507
    assert "No space left on device" in said
    assert len(choices) == 0


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c_and_refuses_a_second_one(tmp_path: Path) -> None:
    a, b = runs(tmp_path)
    path = tmp_path / "choices.jsonl"
    arguments = command("longwriter", "annotate", a, b, "-o", str(path), "--port", "0")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        url = next(word for word in line.split() if word.startswith("http"))
        assert "11 pairs to judge" in line
        body = {"person": "kim", "pair": 0, "better": "tie"}
        assert ask(f"{url}choices", body)[0] == 204
        second = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "another `longwriter annotate` writes to" in second.stderr
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"1 choices by 1 person are in {path}" in out
    assert f"--people {path}" in out


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_person_chooses_by_keyboard_in_the_browser(
    served: tuple[str, Choices], chromium: Browser, width: int
) -> None:
    url, choices = served
    context = chromium.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    page.fill("#person", "kim")
    page.keyboard.press("Enter")
    for number, key in enumerate("1201"):
        wait_until(
            page, f"document.getElementById('progress').textContent.includes('{number} judged')"
        )
        page.keyboard.press(key)
    wait_until(page, "!document.getElementById('end').hidden")
    shown = [choices.shown("kim", pair) for pair in choices.pairs]
    assert shown == ["left", "right", "tie", "left"]
    page.keyboard.press("p")  # back, and change a choice
    wait_until(page, "document.querySelector('[data-better=tie]').ariaPressed === 'true'")
    page.click("[data-better=right]")
    wait_until(page, "document.querySelector('[data-better=right]').ariaPressed === 'true'")
    assert choices.shown("kim", choices.pairs[2]) == "right"
    hostile = next(i for i, pair in enumerate(choices.pairs) if pair.id == "x")
    page.reload()
    page.fill("#person", "lee")
    page.keyboard.press("Enter")
    for number in range(hostile):
        wait_until(
            page, f"document.getElementById('progress').textContent.includes('{number + 1} of')"
        )
        page.keyboard.press("n")
    wait_until(page, "document.body.textContent.includes('javascript:alert')")
    assert page.title().startswith("Which text is better?")
    assert page.locator("#pair script, #pair a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not complaints
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_accessible(
    served: tuple[str, Choices], chromium: Browser, width: int, theme: Any
) -> None:
    axe = axe_source()
    size: Any = {"width": width, "height": 844}
    context = chromium.new_context(viewport=size, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.goto(served[0])
    assert violations(page, axe) == []
    page.fill("#person", "kim")
    page.keyboard.press("Enter")
    wait_until(page, SAYS, "0 judged")
    assert violations(page, axe) == []
    context.close()


def test_nan_is_null_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = runs(tmp_path)
    path = chosen(tmp_path, a, b, {"kim": "b"})
    assert main(["compare", a, b, "--people", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=lambda _: pytest.fail("NaN"))
    assert report["people"]["agreement"]["mean"] is None
    assert not math.isnan(report["people"]["p"])
