"""Benchmark prompts are detected in other texts, however they are wrapped; others are not."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.errors import InputError
from longwriter_core.overlap import NEAR, Overlap, PromptIndex, benchmark_prompts, find_overlaps

# Prompts of this project in the style of the benchmarks.
PROMPTS = {
    "ferry/1": "Write a 3000-word guide to the ferries of Norway, with prices and timetables.",
    "ferry/2": "Write a 9000-word guide to the ferries of Norway, with prices and timetables.",
    "tea/1": "请写一篇5000字的关于明代茶馆与市民生活的论文，要求引用史料。",
    "short/1": "给我写一段竹编工艺介绍，400字",
    "long/1": "Write a story in five chapters. " + " ".join(
        f"In chapter {n} the {who} of the {where} loses a {what} and finds it again far away."
        for n, (who, where, what) in enumerate(
            (("baker", "harbour", "lantern"), ("pilot", "island", "compass"),
             ("teacher", "valley", "letter"), ("sailor", "mill", "clock"),
             ("widow", "tower", "ring")), 1)
    ),
}  # fmt: skip
CHATTER = "Hi! I have to hand this in on Monday and I am stuck. " * 8


def found_in(text: str) -> Overlap[int] | None:
    return next(find_overlaps([(7, text)], PROMPTS), None)


@pytest.mark.parametrize("id", PROMPTS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text, id="unchanged"),
        pytest.param(str.upper, id="case"),
        pytest.param(lambda text: "".join(c for c in text if c not in ".,，。"), id="punctuation"),
        pytest.param(lambda text: "\n\n" + text.replace(" ", " \n\t"), id="blanks"),
        pytest.param(lambda text: text.translate({0x35: 0xFF15, 0x57: 0xFF37}), id="full width"),
        pytest.param("\u200b".join, id="invisible characters"),
        pytest.param(lambda text: f"{CHATTER}\n“{text}” {CHATTER * 5}", id="inside a message"),
        pytest.param(lambda text: f"你好，请帮我做作业：{text}谢谢", id="no blank around it"),
    ],
)
def test_a_prompt_is_found_whatever_surrounds_it(id: str, change: object) -> None:
    assert callable(change)
    assert found_in(change(PROMPTS[id])) == Overlap(7, id, 1.0, "exact")


@pytest.mark.parametrize(
    ("id", "text"),
    [
        pytest.param(
            "ferry/1", "Write a guide to the ferries of Norway with prices and times", id="edited"
        ),
        pytest.param(
            "ferry/1",
            "Write a 3000-word manual to the ferries of Iceland, with prices and pictures.",
            id="a fifth of the words replaced",
        ),
        pytest.param(
            "tea/1",
            "请写一篇5000字的关于朋友茶馆与市民天气的论文，桥梁引用史料。",
            id="a fifth of the words replaced, Chinese",
        ),
        pytest.param(
            "ferry/1",
            f"{CHATTER}Please write a 3000-word guide to all ferries of Norway, and add prices and "
            f"timetables! {CHATTER}",
            id="edited, inside a message",
        ),
        pytest.param("tea/1", "写一篇五千字的明代茶馆与市民生活论文，要求引用史料", id="Chinese"),
        pytest.param("short/1", "给我写一段竹编工艺的介绍，800字左右", id="a short one"),
        pytest.param("long/1", PROMPTS["long/1"][:340], id="cut off"),
    ],
)
def test_an_edited_prompt_is_found_as_near(id: str, text: str) -> None:
    found = found_in(text)
    assert found is not None
    assert (found.kind, found.prompt_id.split("/")[0]) == ("near", id.split("/")[0])
    assert NEAR <= found.similarity <= 1


@pytest.mark.parametrize("half", ["first", "middle", "second"])
@pytest.mark.parametrize("id", ["tea/1", "long/1"])
def test_half_of_a_prompt_is_found(id: str, half: str) -> None:
    prompt = PROMPTS[id]
    start = {"first": 0, "middle": len(prompt) // 4, "second": len(prompt) // 2}[half]
    found = found_in(f"{CHATTER}{prompt[start : start + len(prompt) // 2 + 3]}{CHATTER}")
    assert found is not None
    assert found.prompt_id == id
    assert found.kind in ("near", "part")


@pytest.mark.parametrize("id", ["ferry/1", "long/1"])
def test_letters_of_other_alphabets_that_look_alike_do_not_hide_a_prompt(id: str) -> None:
    looks_alike = str.maketrans("aceopxyiATW", "асеорхуіАТԜ")
    accents = {ord("o"): "ó", ord("e"): "e\u0301"}
    for text in (PROMPTS[id].translate(looks_alike), PROMPTS[id].translate(accents)):
        assert text != PROMPTS[id]
        assert found_in(text) == Overlap(7, id, 1.0, "exact")


def test_a_common_phrase_of_a_prompt_is_not_a_part_of_it() -> None:
    assert found_in("Which chapters of the book are about the ferries of Norway?") is None
    assert found_in("明代茶馆与市民生活有什么关系？") is None


@given(st.text(alphabet="茶馆与市民生活 ferry of Norwayабв\u0301", max_size=200))
def test_any_text_can_be_searched(text: str) -> None:
    found_in(text)


def test_a_prompt_with_another_length_is_the_same_prompt() -> None:
    found = found_in("Write a 12,000-word guide to the ferries of Norway, with prices, timetables")
    assert found is not None
    assert found.prompt_id.startswith("ferry/")
    assert found.similarity > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "Write a 3000-word history of the railways of Norway, with maps and photographs.",
        "How do I book a ferry in Norway? What are the prices?",
        "唐代书院与科举制度有什么关系？请写成论文。",
        "明代茶馆有哪些种类？",
        "青铜器有哪些种类？请写800字",
        "Write a story in five chapters about a lighthouse keeper who loses his way.",
        "",
        "…",
    ],
)
def test_a_different_prompt_on_the_same_topic_is_not_found(text: str) -> None:
    assert found_in(text) is None


def test_scattered_parts_of_a_prompt_do_not_count() -> None:
    words = PROMPTS["ferry/1"].split()
    assert found_in((" " + "lorem ipsum dolor sit amet " * 20).join(words)) is None


def test_the_most_similar_of_several_prompts_is_reported() -> None:
    assert found_in(PROMPTS["ferry/2"].lower()) == Overlap(7, "ferry/2", 1.0, "exact")


def test_overlaps_are_reported_in_order_with_their_places() -> None:
    texts = [("a", PROMPTS["tea/1"]), ("b", "Hello."), ("c", PROMPTS["ferry/1"])]
    assert [found.place for found in find_overlaps(texts, PROMPTS)] == ["a", "c"]


@given(st.text(max_size=300))
def test_arbitrary_text_around_a_prompt_does_not_hide_it(text: str) -> None:
    # a letter or digit next to the prompt would change its first or last word or number
    found = found_in(f"{text} – {PROMPTS['tea/1']} – {text}")
    assert found is not None
    assert found.similarity == 1.0


@pytest.mark.usefixtures("upstream")
def test_every_benchmark_prompt_matches_itself_and_no_other_prompt() -> None:
    prompts = benchmark_prompts()
    assert len(prompts) == 120 + 48
    assert sum(id.startswith("longwrite_ruler") for id in prompts) == 48
    index = PromptIndex(prompts)
    for id, prompt in prompts.items():
        found = index.find(prompt, id)
        assert found is not None
        assert (prompts[found.prompt_id], found.kind) == (prompt, "exact")
        others = {other: text for other, text in prompts.items() if other != id}
        if id.startswith("longbench_write") and int(id[-3:]) % 8 == 0:
            assert PromptIndex(others).find(prompt, id) is None


@pytest.mark.usefixtures("upstream")
def test_a_benchmark_prompt_with_one_edited_word_is_found() -> None:
    dice = random.Random(3)
    prompts = benchmark_prompts()
    index = PromptIndex(prompts)
    for id, prompt in prompts.items():
        blank = " " if prompt.isascii() else ""
        parts = prompt.split() if blank else list(prompt)
        if len(parts) < (10 if blank else 20):  # one word of few can be the topic
            continue
        parts[dice.randrange(len(parts))] = "other" if blank else "山"
        assert index.find(f"{CHATTER}{blank.join(parts)}. {CHATTER}", id), prompt


def test_missing_benchmark_files_give_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    with pytest.raises(InputError, match=r"longbench_write.jsonl"):
        benchmark_prompts()


def test_the_demo_prompts_do_not_overlap_with_the_benchmarks(upstream: Path) -> None:
    assert upstream
    rows = Path(__file__).parents[2] / "longwriter_core" / "demo_prompts.jsonl"
    texts = [json.loads(line)["prompt"] for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(texts) == 12
    assert list(find_overlaps(enumerate(texts), benchmark_prompts())) == []
