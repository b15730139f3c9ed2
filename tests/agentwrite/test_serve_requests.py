"""Which requests `agentwrite serve` plans and writes, and which it passes on."""

import time
from pathlib import Path

import pytest

from agentwrite.server.lengths import own_words, requested_words
from agentwrite.server.serve import PLAN_FROM
from longwriter_core.jsonl import read_jsonl


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ("Write a 5,000-word essay on tea.", 5000),
        ("Can you write 5000 words on bees?", 5000),
        ("A 3000-word story about a fox", 3000),
        ("I need a 3000 word report on wheat.", 3000),
        ('Write a 5000-word essay titled "Bees".', 5000),
        ('"Write a 5000 word essay on bees"', 5000),
        ("Read this report and write 5,000 words about it.", 5000),
        ("Summarise the war in 5,000 words.", 5000),
        ("The topic is tea.\n\nWrite 4,000 words about it.", 4000),
        ("请写一篇5000字的文章", 5000),
        ("大学生恋爱观社会调查报告，5000字左右", 5000),
    ],
)
def test_requested_lengths_are_read(turn: str, words: int) -> None:
    assert requested_words(turn) == words


@pytest.mark.parametrize(
    "turn",
    [
        "now a title",
        "Thanks for the 5,000 words!",
        "I wrote 5,000 words today.",
        "The 10,000-word essay you wrote is great. Now a title.",
        "My thesis has 20,000 words. Suggest a title.",
        "Give me a title for my 10,000-word essay.",
        "How many pages is 5,000 words?",
        "Is 5,000 words enough?",
        "Translate this 5,000 word article.\n\nTea is a plant.",
        "Please proofread my 4,000-word thesis chapter.",
        "Shorten my 8,000-word chapter.",
        "What does \"write a 5,000-word essay\" mean?",
        "Here is an essay prompt: “Write 5,000 words”. Suggest three titles.",
        "Fix the typos:\n\n```\nWrite a 10,000 word essay\n```",
        "Fix the typos:\n\n```\nWrite a 10,000 word essay, the fence is open",
        "> write 5,000 words\n\nWhat do you think?",
        "<document>Write 9,000 words</document> Suggest a title for it.",
        "<doc id='1'>\nWrite 9,000 words\n</doc>\nSuggest a title for it.",
        "请翻译这篇5000字的文章",
        "这篇小说有10000字，请起个标题",
        "「写一篇5000字的文章」是什么意思？",
        "Write 9,000 words. " + "And then the rest of a pasted text follows. " * 400,
    ],
)  # fmt: skip
def test_existing_texts_are_not_writing_requests(turn: str) -> None:
    assert requested_words(turn) is None


def test_a_shorter_version_counts_by_its_own_length() -> None:
    assert requested_words("Summarise this 100,000-word novel in 500 words") == 500


@pytest.mark.parametrize(
    "unit",
    [
        "<a>",
        "```",
        "\n> ",
        '"',
        "“",
        "<a x",
        " my ",
        "the 5,000 ",
        "5,000 words. ",
        "、字",
        "1,",
        "write a ",
        "write a 5,000-word poem, ",
        "先写一首",
        "turn it ",
    ],
)
def test_reading_takes_linear_time(unit: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        requested_words(unit * count)
        return time.process_time() - start

    seconds(10)
    assert seconds(40_000) < 2


def test_only_complete_quotations_are_left_out() -> None:
    assert own_words('Write 5,000 words on the 12" record.') == (
        'Write 5,000 words on the 12" record.'
    )


DATA = Path(__file__).parents[1] / "data" / "serve_requests.jsonl"


@pytest.mark.parametrize(
    ("half", "wrong", "missed"), [("seen", 5, 1), ("unseen", 4, 2)], ids=["seen", "unseen"]
)
def test_traps_are_passed_on_and_requests_are_planned(half: str, wrong: int, missed: int) -> None:
    """The rules were written for the seen half; the other was read once, when they were done.

    A trap that is planned spends money that nobody wanted to spend. A request that is missed gets
    the model's own answer.
    """
    rows = [row for _, row in read_jsonl(DATA) if row["half"] == half]
    traps = [row["turn"] for row in rows if row["words"] is None]
    requests = [row for row in rows if row["words"]]
    assert len(traps) >= 20
    assert len([turn for turn in traps if requested_words(turn)]) <= wrong
    assert len([r for r in requests if requested_words(r["turn"]) != r["words"]]) <= missed


@pytest.mark.parametrize(("half", "wrong"), [("parts", 0), ("parts-unseen", 1)])
def test_lengths_of_a_whole_do_not_pay_for_its_parts(half: str, wrong: int) -> None:
    """Turns that name the length of something larger than what they ask for, and real requests.

    The rules were written for the first part; the other was read once, when they were done.
    """

    def planned(words: int | None) -> int | None:
        return words if words and words >= PLAN_FROM else None

    rows = [row for _, row in read_jsonl(DATA) if row["half"] == half]
    assert len(rows) >= 30
    faults = [r for r in rows if planned(requested_words(r["turn"])) != planned(r["words"])]
    assert len(faults) <= wrong, faults


def test_prompts_of_the_benchmarks_are_planned(upstream: Path) -> None:
    rows = [
        row
        for name in ("longbench_write", "longwrite_ruler")
        for _, row in read_jsonl(upstream / f"{name}.jsonl")
        if row["length"] >= 2000
    ]
    planned = [row for row in rows if requested_words(row["prompt"]) == row["length"]]
    assert len(rows) == 98
    assert len(planned) >= 97  # one names pages instead of words
