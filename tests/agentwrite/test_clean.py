"""Cleaning by rule: what is removed, how it is counted, and similar text that must be kept."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwrite.writing.clean import TAG, clean
from agentwrite.writing.prompts import Prompts
from longwriter_core.llm.ask import is_error_text

PROSE = "The harbour silts up a little more with every tide, and nobody remembers when it began."
ZH = "港口随着每一次潮汐又淤积了一点，没有人记得这一切是从什么时候开始的，也没有人打算去问个明白。"


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (f"Paragraph 1\n\n{PROSE}", "paragraph_identifier"),
        (f"Paragraph 12: {PROSE}", "paragraph_identifier"),
        (f"**Paragraph 3**\n{PROSE}", "paragraph_identifier"),
        (f"**Paragraph 3:** {PROSE}", "paragraph_identifier"),
        (f"**Paragraph 3**: {PROSE}", "paragraph_identifier"),
        (f"[Paragraph 3] - {PROSE}", "paragraph_identifier"),
        (f"## Paragraph 3\n\n{PROSE}", "paragraph_identifier"),
        (f"Paragraph 3 - {PROSE}", "paragraph_identifier"),
        (f"Paragraph 1 - Main Point: Mud - Word Count: 400 words\n\n{PROSE}", "plan_line"),
        (f"Paragraph Three: {PROSE}", "paragraph_identifier"),
        (f"Here is the next paragraph:\n\n{PROSE}", "meta_talk"),
        (f"Sure, I can do that.\n\n{PROSE}", "meta_talk"),
        (f"Of course!\n\n{PROSE}", "meta_talk"),
        (f"Sure! Here's the continuation of the text:\n\n{PROSE}", "meta_talk"),
        (f"Certainly! Below is paragraph 3 of the essay.\n{PROSE}", "meta_talk"),
        (f"I'll now write the third paragraph:\n\n{PROSE}", "meta_talk"),
        (f"{PROSE}\n\nLet me know if you would like me to go on!", "meta_talk"),
        (f"{PROSE}\n\n(To be continued)", "meta_talk"),
        (f"{PROSE}\n\n(Word count: 412 words)", "word_count"),
        (f"{PROSE}\n\n**Word Count: 412**", "word_count"),
        (f"<think>I should be brief.</think>\n\n{PROSE}", "thinking"),
        (f"I should be brief.\n</think>\n\n{PROSE}", "thinking"),
        (f"{PROSE}<|eot_id|>", "special_tokens"),
    ],
)
def test_non_prose_is_removed_and_counted_by_rule(raw: str, rule: str) -> None:
    cleaned = clean(raw)
    assert (cleaned.text, dict(cleaned.counts)) == (PROSE, {rule: 1})


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (f"段落1\n\n{ZH}", "paragraph_identifier"),
        (f"段落 1：{ZH}", "paragraph_identifier"),
        (f"**第三段**\n{ZH}", "paragraph_identifier"),
        (f"第十二段：{ZH}", "paragraph_identifier"),
        (f"以下是第三段的内容：\n\n{ZH}", "meta_talk"),
        (f"好的，以下是续写的部分：\n{ZH}", "meta_talk"),
        (f"好的，\n{ZH}", "meta_talk"),
        (f"{ZH}\n\n（未完待续）", "meta_talk"),
        (f"{ZH}\n\n希望这段内容符合您的要求。", "meta_talk"),
        (f"{ZH}\n（字数：400字）", "word_count"),
        (f"{ZH}\n（字數：400字）", "word_count"),
        (f"{ZH}\n\n（未完待續）", "meta_talk"),
    ],
)
def test_chinese_non_prose_is_removed_and_counted_by_rule(raw: str, rule: str) -> None:
    cleaned = clean(raw)
    assert (cleaned.text, dict(cleaned.counts)) == (ZH, {rule: 1})


@pytest.mark.parametrize(
    "raw",
    [
        PROSE,
        ZH,
        f"# The Harbour\n\n{PROSE}",
        f"**The Harbour**\n\n{PROSE}",
        "Paragraph 3 of the harbour act has never been applied, and the lawyers know why.",
        "Paragraph by paragraph she read the letter.",
        "第三段楼梯的尽头是一扇门。",
        "Here is the place where the river once met the sea",
        "Here is where the section of the wall fell, and here the widow stands every evening.",
        "This is the writing on the wall that nobody in the village would read aloud",
        "Sure of himself, the pilot took the narrow passage.",
        "好的木匠从不急于下刀。",
        "以下几点值得注意，它们决定了港口的命运",
        f"以下是他写给我的一段话：\n\n{ZH}",
        f"“Sure!”\n\n{PROSE}",
        f"Great! he shouted.\n\n{PROSE}",
        f"Okay, so the sea was calm.\n\n{PROSE}",
        f"{PROSE}\n\n“Let the river be,” she said.",
        f"{PROSE}\n\nNobody counted the words.",
        f"{PROSE} A reply begins with <think> and goes on after </think>, as a rule.",
        f"{PROSE}\n\nFeel free to leave, I told him, but the door stays shut.",
        f"This is the next chapter of the Corps:\n\n{PROSE}",
        f"{PROSE}\n\nTo be continued was all the screen said.",
        f"{PROSE}\n\nIf you want, I can change the locks.",
        f"{PROSE}\n\nNote: The tenant is to be notified in writing.",
        f"Length: 12\n\n{PROSE}",
        f"Step 3: Write 200 words\n\n{PROSE}",
        f"{ZH}\n\n如果您愿意，请告诉我您的名字。",
        "“I hope,” said the captain, “that this is the end of it.”",
    ],
)
def test_prose_is_unchanged(raw: str) -> None:
    cleaned = clean(raw)
    assert (cleaned.text, dict(cleaned.counts)) == (raw, {})


def test_a_long_run_of_spaces_is_cleaned_quickly() -> None:
    raw = f"The count{' ' * 380}left"
    start = time.process_time()
    assert clean(raw).text == raw
    assert time.process_time() - start < 0.2  # cubic time would be 0.5 s, of every call in flight


def test_a_title_after_an_identifier_is_kept() -> None:
    assert clean(f"### Paragraph 3: The Harbour\n\n{PROSE}").text == f"### The Harbour\n\n{PROSE}"
    assert clean(f"**Paragraph 3: The Harbour**\n\n{PROSE}").text == f"**The Harbour**\n\n{PROSE}"


def test_several_rules_apply_in_sequence() -> None:
    raw = (
        f"Sure! Here is the paragraph:\n\n**Paragraph 3**\n\n# Tides\n\n{PROSE}\n\n(Word count: 9)"
    )
    cleaned = clean(raw, before="# Tides\n\nThe first part.")
    assert cleaned.text == PROSE
    assert dict(cleaned.counts) == {
        "meta_talk": 1, "paragraph_identifier": 1, "repeated_heading": 1, "word_count": 1,
    }  # fmt: skip


# Structure: the prompts ask for tags around the text


@pytest.mark.parametrize(
    "raw",
    [
        f"<section_text>\n{PROSE}\n</section_text>",
        f"Let me think about the tide.\n\n<section_text>{PROSE}</section_text>\n\n(400 words)",
        f"<section_text>\n{PROSE}",  # the closing tag is missing
        f"<SECTION_TEXT>\nParagraph 3\n\n{PROSE}\n\n(Word count: 12)\n</SECTION_TEXT>",
    ],
)
def test_the_text_between_the_tags_is_the_section(raw: str) -> None:
    assert clean(raw, step=3).text == PROSE


def test_two_tagged_parts_are_joined() -> None:
    raw = f"<section_text>{PROSE}</section_text>\nAnd then:\n<section_text>{ZH}</section_text>"
    assert clean(raw).text == f"{PROSE}\n\n{ZH}"


def test_tags_around_less_than_half_of_the_words_are_not_trusted() -> None:
    raw = f"<section_text>Tides</section_text>\n\n{PROSE}"
    assert clean(raw).text == f"Tides\n\n{PROSE}"


def test_inside_the_tags_what_looks_like_talk_is_prose() -> None:
    prose = f"Of course!\n\n{PROSE}\n\nShall I continue?"
    assert clean(f"<section_text>\n{prose}\n</section_text>").text == prose


def test_the_built_in_prompts_ask_for_the_tags() -> None:
    for name in ("write", "rewrite"):
        template = Prompts.load().templates[name]
        assert f"<{TAG}>" in template
        assert f"</{TAG}>" in template


def test_a_cleaned_section_is_cleaned_again_only_of_repetitions() -> None:
    raw = f"{PROSE}\n\nOf course!\n\n{ZH}\n\nShall I continue?"
    assert clean(raw, f"Old.\n\n{PROSE}", is_reply=False).text == raw.removeprefix(PROSE).strip()


def test_notes_after_a_word_count_are_removed() -> None:
    notes = "**Word count:** 1,000\n\n**Key Beats:**\n- **Tone:** bleak\n- **Stakes:** high"
    cleaned = clean(f"{PROSE * 4}\n\n---\n\n{notes}")
    assert cleaned.text == PROSE * 4
    assert notes in cleaned.removed[0][1]


def test_a_chapter_after_a_word_count_is_kept() -> None:
    raw = f"{PROSE * 6}\n\n(Word count: 90)\n\nChapter 2: Mud\n\n{PROSE}"
    assert PROSE in clean(raw).text.partition("Mud")[2]


# Overlap with the preceding text


def test_a_repeated_heading_is_removed() -> None:
    cleaned = clean(f"## Tides\n\n{PROSE}", before=f"# TIDES:\n\n{ZH}")
    assert (cleaned.text, dict(cleaned.counts)) == (PROSE, {"repeated_heading": 1})
    assert clean(f"## Mud\n\n{PROSE}", before=f"# Tides\n\n{ZH}").text.startswith("## Mud")


@pytest.mark.parametrize(
    ("raw", "before"),
    [
        (f"## Ingredients\n\n{PROSE}", f"## Soup\n\n## Ingredients\n\n{ZH}\n\n## Method\n\nBoil."),
        (f"**MARA**\n{PROSE}", f"**MARA**\n{ZH}"),
        (f"INT. THE HARBOUR MASTER'S OFFICE - NIGHT\n\n{PROSE}",
         f"INT. THE HARBOUR MASTER'S OFFICE - NIGHT\n\n{ZH}"),
    ],
    ids=["a heading of another part", "a speaker", "a slug line"],
)  # fmt: skip
def test_lines_that_are_repeated_on_purpose_are_kept(raw: str, before: str) -> None:
    assert clean(raw, before).text == raw


def test_repeated_paragraphs_are_removed() -> None:
    cleaned = clean(f"{PROSE}\n\n{ZH}\n\nNew.", before=f"Old.\n\n{PROSE}\n\n{ZH}")
    assert (cleaned.text, dict(cleaned.counts)) == ("New.", {"repeated_text": 1})


def test_a_repeated_end_of_the_text_is_removed() -> None:
    cleaned = clean(f"{PROSE[20:]} And so on.", before=f"Old. {PROSE}")
    assert (cleaned.text, dict(cleaned.counts)) == ("And so on.", {"repeated_text": 1})


def test_short_lines_such_as_dialogue_may_repeat() -> None:
    raw = f"“No.”\n\n{ZH}"
    assert clean(raw, before=f"{PROSE}\n\n“No.”").text == raw


def test_a_section_without_new_text_becomes_empty() -> None:
    assert clean(f"{PROSE}\n\n{ZH}", before=f"{PROSE}\n\n{ZH}").text == ""
    assert clean("Here is the next paragraph:").text == ""


# Error messages instead of prose


@pytest.mark.parametrize(
    "text",
    ["Max tries. Failed.", "Error: timeout", '{"error": {"message": "overloaded"}}',
     "<html>Please sign in.</html>", "Rate limit reached.", "502 Bad Gateway",
     "Traceback (most recent call last):", "Internal server error\n"],
)  # fmt: skip
def test_an_error_message_is_detected(text: str) -> None:
    assert is_error_text(text)


@pytest.mark.parametrize("text", [PROSE, "Errors are how we learn.", "Error: " + PROSE * 5])
def test_prose_about_errors_is_not_an_error_message(text: str) -> None:
    assert not is_error_text(text)


@given(st.text(), st.text())
def test_cleaning_is_idempotent(raw: str, before: str) -> None:
    cleaned = clean(raw, before)
    again = clean(cleaned.text, before)
    assert (again.text, dict(again.counts)) == (cleaned.text, {})


@pytest.mark.timeout(20)  # a rule that backtracks takes minutes
@pytest.mark.parametrize("raw", [" " * 50_000 + "x", "*" * 50_000, "(" * 50_000, "\n" * 50_000])
def test_long_runs_of_one_character_are_cleaned_quickly_and_keep_the_prose(raw: str) -> None:
    cleaned = clean(raw + PROSE + raw, before=raw * 4)
    assert PROSE in cleaned.text
    assert set(cleaned.counts) <= {"repeated_text"}


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (f"Paragraph 3.\n\n{PROSE}", 2),  # not the number of the step
        (f"Paragraph 3: {PROSE}", 3),  # text follows on the line
        (f"第三段\n\n{ZH}", 1),
        (f"Word count: 90,000\n\n{PROSE}", 3),  # a query letter
    ],
)
def test_identifiers_and_counts_of_the_text_stay_between_the_tags(text: str, step: int) -> None:
    assert clean(f"<section_text>\n{text}\n</section_text>", step=step).text == text


@pytest.mark.parametrize("line", ["Paragraph 3", "**Paragraph 3**", "第三段"])
def test_the_identifier_of_the_step_goes_between_the_tags(line: str) -> None:
    raw = f"<section_text>\n{line}\n\n{PROSE}\n</section_text>"
    assert clean(raw, step=3).text == PROSE
