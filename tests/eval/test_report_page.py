"""The report in a browser: complete, usable, without requests, and safe with hostile text."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import DESK, PHONE, Opened, chromium, opened, wait_until
from support.logs import Answer, Log, answers, words

from longwriter_core.text.diagnostics import repeated_passages
from longwriter_core.text.length import count_words
from longwriter_eval.report import write_report
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples

__all__ = ["chromium"]

SCRIPT = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
# characters that end lines or strings, reverse the text direction, or are invisible
ODD = "\u2028\u2029\x00\u202e\u2066\ufeff'\"`${window.pwned=1}{{7*7}}<!--]]>&lt;"
HOSTILE = SCRIPT + ODD


def _varied(number: int) -> Answer:
    """Varied lengths, types, languages and grades; the ninth response has emoji."""
    required = (100, 900, 2500, 6000)[number % 4]
    text = words(required * (number % 5 + 1) // 3)
    if number == 8:
        text = f"🦊 {words(1200)} 🦊 {words(400)}"
    return Answer(
        text,
        grades=(number % 5 + 1, min(5, number % 5 + 2)),
        required=required,
        type=("News Report", "Popular Science")[number % 2],
        language=("en", "zh")[number % 3 == 0],
    )


def _ruler() -> Log:
    def answer(number: int) -> Answer:
        required = (1000, 5000, 20000)[number % 3]
        return Answer(words(min(required, 3000 + 10 * number)), None, required=required)

    return Log(answers(6, answer, "longwrite_ruler"), task="longwrite_ruler_01000")


def _hostile(_: int) -> Answer:
    return Answer(
        f"{HOSTILE} {words(700)}\n{HOSTILE}", required=900, type=HOSTILE, language=HOSTILE
    )


def _hostile_run(folder: Path) -> Run:
    run = Log(answers(4, _hostile), judge=HOSTILE).load(folder)
    run.results["model_name"] = HOSTILE
    run.results["config"]["model_args"] = {"model": HOSTILE}
    for sample in run.samples:
        sample.row["doc"]["judgement"]["verdicts"][0].update(model=HOSTILE, detail=HOSTILE)
        raw = sample.row["doc"]["judgement"]["verdicts"][0]["raw"]
        sample.row["doc"]["judgement"]["verdicts"][0]["raw"] = HOSTILE.replace("{", "(") + raw
    run.samples[:] = [replace(s, prompt=HOSTILE + s.prompt) for s in run.samples]
    return run


def _runs(folder: Path) -> dict[str, list[Run]]:
    judged = Log(answers(9, _varied)).load(folder / "glm", _ruler())
    fewer = dict(list(answers(9, lambda n: replace(_varied(n), text=words(300))).items())[1:])
    unread = answers(6, lambda n: replace(_varied(n), grades="refused" if n < 2 else (4,)))
    unjudged = answers(4, lambda n: replace(_varied(n), grades=None, text="" if n == 1 else "Tea."))
    return {
        "judged": [judged],
        "two runs": [judged, Log(fewer).load(folder / "llama", _ruler())],
        "three runs": [
            judged,
            Log(fewer).load(folder / "llama-without-ruler"),
            Log(unjudged).load(folder / "unjudged"),
        ],
        "missing verdicts": [Log(unread).load(folder / "unread")],
        "without a judge": [Log(unjudged).load(folder / "unjudged")],
        "ruler only": [_ruler().load(folder / "ruler")],
        "hostile": [_hostile_run(folder / "hostile")],
    }


PAGES = (
    "judged",
    "two runs",
    "three runs",
    "missing verdicts",
    "without a judge",
    "ruler only",
    "hostile",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Run]]:
    return _runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def pages(runs: dict[str, list[Run]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in runs}
    for name, path in paths.items():
        write_report(runs[name], path)
    return paths


@pytest.fixture
def judged(chromium: Browser, pages: dict[str, Path]) -> Iterator[Opened]:
    with opened(chromium, pages["judged"]) as page:
        yield page
        assert not page.complaints


@pytest.fixture(scope="module")
def scores(runs: dict[str, list[Run]]) -> list[Score]:
    """Of the judged run, in the order of the list."""
    found = score_samples(runs["judged"][0].samples)
    return sorted(found, key=lambda s: (s.benchmark, s.sample.required, s.sample.id))


def _choose(page: Opened, **choices: str) -> list[str]:
    """The ids of the prompts that stay in the list, in its order."""
    for name, value in choices.items():
        page.page.select_option(f"select[name={name}]", value)
    ids: list[str] = page.evaluate(
        """() => {
          return [...document.querySelectorAll("#list a")].map(
            (link) => decodeURI(link.getAttribute("href").slice(1)).split("~")[0]);
        }"""
    )
    return ids


def _open(page: Opened, id: str) -> None:
    page.page.click(f"#list a[href='#{id}']")
    wait_until(page.page, "id => document.querySelector('#reader h3')?.textContent === id", arg=id)


def _response(page: Opened, number: int = 0) -> str:
    """The text of a response as a reader sees it, without the numbers at its side."""
    text: str = page.evaluate(
        """(number) => {
          const body = document.querySelectorAll(".response")[number].cloneNode(true);
          for (const mark of body.querySelectorAll(".words")) mark.remove();
          return body.textContent;
        }""",
        number,
    )
    return text


@pytest.mark.parametrize(
    ("width", "theme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"]
)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_errors_or_requests_and_fits_the_screen(
    name: str, width: int, theme: str, chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages[name], width, theme) as page:
        assert page.evaluate("document.querySelectorAll('#list a').length") > 0
        page.page.click("#list a >> nth=0")
        page.page.wait_for_selector("#reader .answer")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (page.complaints, page.requests) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_is_accessible(name: str, chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages[name]) as page:
        figures = page.evaluate(
            """() => [...document.querySelectorAll("figure")].map((figure) => {
              const svg = figure.querySelector("svg");
              const said = svg.getAttribute("aria-labelledby").split(" ")
                .map((id) => document.getElementById(id).textContent);
              const rows = figure.querySelectorAll("tbody tr").length;
              return [svg.getAttribute("role"), ...said, rows];
            })"""
        )
        assert figures
        for role, title, description, rows in figures:
            assert role == "img"
            assert len(title) > 10
            assert len(description) > 40
            assert rows > 0
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
        assert len(ids) == len(set(ids))


def _score_of(score: Score) -> float:
    return score.overall_score if score.overall_score is not None else -1


@pytest.mark.parametrize(
    ("choices", "keeps"),
    [
        ({"bucket": "[2k,4k)"}, lambda s: s.bucket == "[2k,4k)"),
        ({"language": "Chinese"}, lambda s: s.sample.language == "zh"),
        ({"type": "Popular Science"}, lambda s: s.sample.type == "Popular Science"),
        ({"status": "unjudged"}, lambda s: s.status == "unjudged"),
        ({"score": "40"}, lambda s: 40 <= _score_of(s) < 60),
        ({"score": "none"}, lambda s: s.overall_score is None),
        ({"fault": "repetition"}, lambda s: s.diagnostics.repetition >= 0.1),
        (
            {"language": "English", "status": "judged"},
            lambda s: s.sample.language == "en" and s.status == "judged",
        ),
    ],
    ids=lambda value: " and ".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_filter_keeps_the_matching_prompts(
    choices: dict[str, str], keeps: Callable[[Score], bool], judged: Opened, scores: list[Score]
) -> None:
    expected = {score.sample.id for score in scores if keeps(score)}
    assert 0 < len(expected) < len(scores)
    assert set(_choose(judged, **choices)) == expected
    assert judged.text("#count") == f"{len(expected)} of {len(scores)} prompts"


def test_all_prompts_are_listed_without_a_filter(judged: Opened, scores: list[Score]) -> None:
    assert _choose(judged) == [score.sample.id for score in scores]
    assert judged.text("#count") == f"{len(scores)} prompts"


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("required", lambda s: s.sample.required),
        ("words", lambda s: s.words),
        ("length", lambda s: s.length_score),
        ("quality", lambda s: s.quality_score),
        ("overall", lambda s: s.overall_score),
        ("repetition", lambda s: s.diagnostics.repetition),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_list_has_the_selected_order(
    order: str,
    key: Callable[[Score], float | None],
    judged: Opened,
    scores: list[Score],
) -> None:
    by_id = {score.sample.id: score for score in scores}
    for direction in (1, -1):
        found = [key(by_id[id]) for id in _choose(judged, order=order, direction=str(direction))]
        known = [value for value in found if value is not None]
        assert known == sorted(known, reverse=direction < 0)
        assert found == known + [None] * (
            len(scores) - len(known)
        )  # prompts without a value come last


def test_the_reader_shows_the_scored_response(judged: Opened, scores: list[Score]) -> None:
    score = next(s for s in scores if s.sample.id == "longwrite_demo/008")
    _open(judged, score.sample.id)
    assert _response(judged) == score.text
    assert judged.text(".prompt") == score.sample.prompt
    numbers = judged.text(".numbers")
    assert f"Words{score.words:,}" in numbers
    assert f"{score.quality_score:.1f}" in numbers
    assert score.judgement
    for number, verdict in enumerate(score.judgement.verdicts):
        assert judged.page.locator(".raw").nth(number).text_content() == verdict.raw


def test_repeated_passages_are_marked_correctly_after_emoji(
    judged: Opened, scores: list[Score]
) -> None:
    score = next(s for s in scores if s.sample.id == "longwrite_demo/008")
    expected = [score.text[start:end] for start, end in repeated_passages(score.text)]
    assert expected
    assert "🦊" in score.text.partition(expected[0])[0]
    _open(judged, score.sample.id)
    marked = judged.evaluate(
        """() => [...document.querySelectorAll(".response mark")].map((passage) => {
          const own = passage.cloneNode(true);
          for (const mark of own.querySelectorAll(".words")) mark.remove();
          return own.textContent;
        })"""
    )
    assert marked == expected


def test_words_are_numbered_every_500(judged: Opened, scores: list[Score]) -> None:
    score = next(s for s in scores if s.sample.id == "longwrite_demo/008")
    _open(judged, score.sample.id)
    before = judged.evaluate(
        """() => [...document.querySelectorAll(".response .words")].map((mark) => {
          const range = new Range();
          range.selectNodeContents(document.querySelector(".response"));
          range.setEndBefore(mark);
          const part = range.cloneContents();
          for (const earlier of part.querySelectorAll(".words")) earlier.remove();
          return [Number(mark.dataset.words), part.textContent];
        })"""
    )
    assert [number for number, _ in before] == [500, 1000, 1500]
    assert [count_words(text) for _, text in before] == [500, 1000, 1500]


def test_clicking_a_dot_opens_its_response(judged: Opened) -> None:
    dot = judged.page.locator("#figure-length svg a").first
    place = int(str(dot.get_attribute("xlink:href")).removeprefix("#p"))
    dot.click()
    judged.page.wait_for_selector("#reader .answer")
    opened_link = judged.page.locator("#list a").nth(place)
    assert opened_link.get_attribute("aria-current") == "true"
    assert judged.page.url.endswith(str(opened_link.get_attribute("href")))


def test_a_link_opens_a_prompt_by_its_id_with_filters(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["judged"], place="#longwrite_demo/000?language=Chinese") as page:
        page.page.wait_for_selector("#reader .answer")
        assert page.text("#reader h3") == "longwrite_demo/000"
        assert page.page.input_value("select[name=language]") == "Chinese"
        kept = _choose(page)
        page.page.get_by_role("button", name="Next", exact=True).click()
        wait_until(
            page.page, "document.querySelector('#reader h3').textContent !== 'longwrite_demo/000'"
        )
        assert page.text("#reader h3") in kept
        assert page.page.url.endswith("?language=Chinese")


def test_next_and_previous_follow_a_filter_chosen_while_reading(judged: Opened) -> None:
    first, *_ = _choose(judged)
    _open(judged, first)
    kept = _choose(judged, language="Chinese")
    while judged.page.get_by_role("button", name="Next", exact=True).is_enabled():
        before = judged.text("#reader h3")
        judged.page.get_by_role("button", name="Next", exact=True).click()
        wait_until(
            judged.page, "id => document.querySelector('#reader h3').textContent !== id", arg=before
        )
        assert judged.text("#reader h3") in kept
    assert judged.text("#reader h3") == kept[-1]


def test_the_search_looks_through_prompts_and_responses(
    judged: Opened, scores: list[Score]
) -> None:
    wanted = scores[2].text.split()[0]
    matching = [
        score.sample.id
        for score in scores
        if wanted.lower() in f"{score.sample.id}\n{score.sample.prompt}\n{score.text}".lower()
    ]
    judged.page.fill("input[name=q]", wanted)
    wait_until(
        judged.page,
        "number => document.querySelectorAll('#list a').length === number",
        arg=len(matching),
    )
    assert sorted(_choose(judged)) == sorted(matching)


def test_markdown_is_rendered_as_text_nodes_and_can_be_switched_off(judged: Opened) -> None:
    id, *_ = _choose(judged)
    _open(judged, id)
    raw = _response(judged)
    judged.page.get_by_role("button", name="Markdown").click()
    judged.page.wait_for_selector(".response.markdown")
    assert judged.page.locator(".response a, .response img, .response script").count() == 0
    judged.page.get_by_role("button", name="Markdown").click()
    judged.page.wait_for_selector(".response:not(.markdown)")
    assert _response(judged) == raw


def test_two_of_three_runs_are_shown_side_by_side(
    chromium: Browser, runs: dict[str, list[Run]], tmp_path: Path
) -> None:
    first, second = runs["two runs"]
    page_path = tmp_path / "three.html"
    write_report([first, second, first], page_path)
    with opened(chromium, page_path) as page:
        _open(page, "longwrite_demo/006")
        assert page.page.locator(".answer").count() == 2
        page.page.get_by_label("Right").select_option("2")
        wait_until(
            page.page,
            "document.querySelectorAll('.answer h3')[1].textContent.includes('(3)')"
            " || document.querySelectorAll('.answer h3')[1].textContent.includes('(2)')",
        )
        page.page.get_by_label("Right").select_option("")
        wait_until(page.page, "document.querySelectorAll('.answer').length === 1")
    with opened(chromium, page_path, PHONE) as page:
        _open(page, "longwrite_demo/006")
        assert page.page.locator(".answer").count() == 1
        assert page.page.locator(".bar [aria-pressed]").count() == 4  # Markdown and three runs


def test_the_passages_that_two_responses_share_can_be_marked(
    chromium: Browser, tmp_path: Path
) -> None:
    shared = "the sea was calm and the boats lay still in the bay"
    one, other = f"One day {shared}, 海很平静 🦊. The end.", f"🦊🦊 Once {shared}; and so it goes."
    logs = [Log({"longwrite_demo/000": Answer(text)}) for text in (one, other)]
    path = tmp_path / "diff.html"
    write_report([log.load(tmp_path / name) for log, name in zip(logs, "ab", strict=True)], path)
    with opened(chromium, path) as page:
        _open(page, "longwrite_demo/000")
        page.page.get_by_role("button", name="Common passages").click()
        page.page.wait_for_selector(".response mark")
        assert page.page.locator(".response mark").all_text_contents() == [shared, shared]
        assert [_response(page, n) for n in (0, 1)] == [one, other]
        assert "60.0% of the words" in page.text(".shared >> nth=0")  # 12 of 20
        page.page.get_by_role("button", name="Common passages").click()
        wait_until(page.page, "!document.querySelector('.response mark, .shared')")
        assert page.complaints == []


def test_the_chosen_theme_is_remembered(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["judged"], theme="light") as page:
        page.page.click("#theme")
        page.page.reload()
        assert _brightness(page) < 100


def test_the_list_works_with_the_keyboard(judged: Opened) -> None:
    judged.page.focus("#list a >> nth=0")
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        judged.page.keyboard.press(key)
    judged.page.wait_for_selector("#reader .answer")
    second = judged.page.locator("#list a").nth(1)
    assert second.get_attribute("aria-current") == "true"
    assert judged.evaluate("document.activeElement.id") == "reader"
    judged.page.get_by_role("button", name="Next", exact=True).click()
    wait_until(
        judged.page,
        "document.querySelectorAll('#list a')[2].getAttribute('aria-current') === 'true'",
    )


def test_on_a_phone_an_open_response_replaces_the_list(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["judged"], PHONE, place="#p3") as page:
        page.page.wait_for_selector("#reader .answer")
        assert not page.page.locator("#list").is_visible()
        page.page.get_by_role("button", name="All responses").click()
        page.page.wait_for_selector("#list a")
        assert not page.page.locator("#reader").is_visible()


def _brightness(page: Opened) -> int:
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(colour.removeprefix("rgb(").partition(",")[0])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_system_until_the_button_is_pressed(
    theme: str, chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["judged"], theme=theme) as page:
        assert (_brightness(page) > 200) == (theme == "light")
        ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
        before = page.evaluate(ink)
        page.page.click("#theme")
        assert (_brightness(page) > 200) == (theme != "light")
        assert page.evaluate(ink) != before  # the figures change with the page


@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_two_runs_are_shown_side_by_side(
    width: int, chromium: Browser, pages: dict[str, Path], runs: dict[str, list[Run]]
) -> None:
    id = "longwrite_demo/006"
    texts = [next(s.response for s in run.samples if s.id == id) for run in runs["two runs"]]
    with opened(chromium, pages["two runs"], width) as page:
        _open(page, id)
        assert _response(page, 0) == texts[0]
        if width == PHONE:  # one at a time: the second would start far below the first
            assert page.page.locator(".answer").count() == 1
            page.page.locator(".bar").get_by_role("button", name="llama").click()
            wait_until(
                page.page, "document.querySelector('.answer h3').textContent.includes('llama')"
            )
            assert _response(page, 0) == texts[1]
            return
        assert _response(page, 1) == texts[1]
        names = page.page.locator(".answer h3").all_text_contents()
        assert [name.split()[-1] for name in names] == ["glm", "llama"]
        first, second = (page.page.locator(".answer").nth(n).bounding_box() for n in (0, 1))
        assert first
        assert second
        assert abs(first["y"] - second["y"]) < 1
        assert second["x"] >= first["x"] + first["width"]


def test_a_prompt_missing_from_one_run_says_so(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["two runs"]) as page:
        assert "have different prompts; 14 are in all runs" in page.text(".warnings")
        _open(page, "longwrite_demo/000")
        assert "no response to this prompt" in page.text(".answer >> nth=1")


def test_missing_verdicts_are_reported_and_not_scored(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["missing verdicts"]) as page:
        assert "2 of 6 responses have no verdict (refused 2)" in page.text(".warnings")
        cells = page.page.locator(".scores tbody.all td").all_text_contents()
        assert cells[0] == "6"
        assert (cells[1], cells[3], cells[-1]) == ("–", "–", "67%")  # no S̄, no S_q
        assert len(_choose(page, status="refused")) == 2
        page.page.click("#list a >> nth=0")
        page.page.wait_for_selector("#reader .answer")
        assert "Verdictrefused" in page.text(".numbers")


def test_a_run_without_a_judge_has_only_length_scores(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["without a judge"]) as page:
        assert "Sl" in page.text(".scores thead")
        assert "Sq" not in page.text(".scores thead")
        assert "none" in page.text("#judging")
        _open(page, "longwrite_demo/001")
        assert "The response is empty." in page.text("#reader")


def test_the_ruler_marks_the_longest_output(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["ruler only"]) as page:
        texts = page.page.locator("#figure-ruler svg text").all_text_contents()
        assert "longest output: 3,050 words" in texts
        assert {"1k", "5k", "20k"} <= set(texts)  # every required length is named
        assert "ruler: 3,050 words" in page.text("#figure-ruler desc")


def test_hostile_text_is_displayed_as_text(
    chromium: Browser, pages: dict[str, Path], runs: dict[str, list[Run]]
) -> None:
    with opened(chromium, pages["hostile"]) as page:
        _open(page, "longwrite_demo/002")
        for details in page.page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        for control in page.page.locator("select:enabled").all():
            options = control.evaluate(
                "select => [...select.options].map((option) => option.value)"
            )
            control.select_option(options[-1])
            control.select_option(options[0])
        (score, *_) = [
            s for s in score_samples(runs["hostile"][0].samples) if s.sample.id.endswith("002")
        ]
        assert _response(page) == score.text
        assert SCRIPT in _response(page)
        assert page.text(".prompt").startswith(SCRIPT)
        assert SCRIPT in page.text(".raw")
        assert "<img src=x onerror='window.pwned=1'>" in page.text("h1")
        assert "49" not in page.text("h1")
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert page.evaluate("document.querySelectorAll('img, iframe, link, object').length") == 0
        executable = page.evaluate(
            "[...document.scripts].filter((s) => !s.type).map((s) => s.parentNode.tagName)"
        )
        assert executable == ["BODY"]
        # names, which appear among our own words, cannot reverse the text direction
        assert "\u202e" not in page.text("h1") + page.text("#settings")
        assert (page.complaints, page.requests) == ([], [])


ATTACKS = {
    "an inline script": "const script = document.createElement('script');"
    "script.textContent = 'window.pwned = 1'; document.body.append(script)",
    "an event handler": "document.body.innerHTML = '<img src=x onerror=window.pwned=1>'",
    "a request": "fetch('https://example.com/').catch(() => 0)",
    "an image": "new Image().src = 'https://example.com/i.png'",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_injected_markup_cannot_run_or_load_anything(
    attack: str, chromium: Browser, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["judged"]) as page:
        page.evaluate(f"() => {{ {attack} }}")
        page.page.wait_for_timeout(100)
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert "Content Security Policy" in " ".join(page.complaints)
