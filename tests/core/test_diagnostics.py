"""Each diagnostic finds its fault and ignores near misses."""

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.text.diagnostics import (
    METRICS,
    diagnose,
    is_wrong_language,
    repeated_passages,
    repetition,
)
from longwriter_core.text.endings import is_cut_off, is_to_be_continued
from longwriter_core.text.refusals import is_refusal

TEN = "one two three four five six seven eight nine ten "
TWENTY = "春江潮水连海平月上明共生滟随波千万里何处"  # twenty characters, all different


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("And then the captain of the", id="English"),
        pytest.param("于是船长走向了那座", id="Chinese"),
        pytest.param("She had three things: a rope,", id="comma"),
        pytest.param("First part.\n\n## Chapter 2", id="heading-without-text"),
        pytest.param("He said, “I will never", id="open-quote"),
        pytest.param("It was late. **The captain", id="open-emphasis"),
        pytest.param("Red roses\nBlue skies\nOld stones\nAnd so,", id="poem-ending-on-a-comma"),
        pytest.param("It was late.\nIt was dark.\nHe slept.\nAnd then", id="last-of-short-lines"),
    ],
)
def test_cut_off(text: str) -> None:
    assert is_cut_off(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("So it ended.", id="English"),
        pytest.param("故事就这样结束了。", id="Chinese"),
        pytest.param("Did it end?\n\n", id="blanks-after-it"),
        pytest.param("He said, “It is over.”", id="curly-quote"),
        pytest.param('He said, "It is over!"', id="straight-quote"),
        pytest.param("他说：“结束了。”", id="Chinese-quote"),
        pytest.param("他说：「结束了……」", id="corner-quote"),
        pytest.param("**It is over.**", id="emphasis"),
        pytest.param("*It is over.*\n\n---", id="rule-after-it"),
        pytest.param("```\nIt is over.\n```", id="code-fence"),
        pytest.param("(That is all.)", id="brackets"),
        pytest.param("It faded…", id="ellipsis"),
        pytest.param("THE END", id="the-end"),
        pytest.param("See:\n- One.\n- At <https://tea.example/a>", id="address-in-a-list"),
        pytest.param("Bye!\n\n**(Outro music, the same tune)**", id="stage-direction"),
        pytest.param("（全文完）", id="Chinese-the-end"),
        pytest.param("Red roses\nBlue skies\nOld stones\nAnd so are you", id="poem"),
        pytest.param("床前明月光\n疑是地上霜\n举头望明月\n低头思故乡", id="Chinese-poem"),
        pytest.param("床前明月光，疑是地上霜。\n举头望明月，低头思故乡。", id="punctuated-poem"),
    ],
)
def test_not_cut_off(text: str) -> None:
    assert not is_cut_off(text)


def test_a_response_that_reached_the_token_limit_is_cut_off() -> None:
    assert diagnose("Write.", "So it ended.").cut_off == 0
    assert diagnose("Write.", "So it ended.", reached_limit=True).cut_off == 1


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m very sorry, but I am unable to write this.",
        "I apologize, but I cannot do that.",
        "Unfortunately, I won't produce a text of that length.",
        "I'm not able to write a 10,000-word novel.",
        "I cannot fulfill this request.",
        "As an AI, I do not feel things and cannot write about them.",
        "很抱歉，我无法完成这个请求。",
        "对不起，我不能写这样的内容。",
        "作为一个人工智能，我不能写这个故事。",
        "我无法为您撰写一万字的文章。",
    ],
)
def test_refusal(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("I'm sorry, but I can't stay, she said. " + "They wept. " * 200, id="long"),
        pytest.param("“对不起，我不能留下。”她说。" + "他们哭了。" * 60, id="long-Chinese"),
        pytest.param("I'm sorry for your loss. I can still see his smile.", id="condolence"),
        pytest.param("He walked home. " * 25 + "I'm sorry, I can't help.", id="not-the-opening"),
        pytest.param("You cannot write well without reading.", id="you-cannot"),
        pytest.param("他无法提供证据，但没有人怀疑他。", id="he-cannot"),
    ],
)
def test_not_a_refusal(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "The door opened. To be continued...",
        "The rest will be continued in the next part.",
        "The door opened.\n\n(Continued)",
        "The door opened.\n\n[Continue to Chapter 5]",
        "The door opened.\n\nContinued...",
        "门开了。未完待续",
        "门开了。（待续）",
        "欲知后事如何，且听下回分解。",
        "由于篇幅限制，以下内容省略。",
    ],
)
def test_to_be_continued(text: str) -> None:
    assert is_to_be_continued(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("The work will continue.", id="continue"),
        pytest.param("She continued in the next room.", id="continued-in-a-room"),
        pytest.param("And on and on it continued...", id="trailing-off"),
        pytest.param("“To be continued,” he read. " + "Then he slept. " * 20, id="not-the-end"),
        pytest.param("生活还在继续。", id="Chinese-continue"),
        pytest.param("I will continue to whisper, and wait for the rest.", id="narrator-goes-on"),
        pytest.param("An epic whose last volume has yet to be written.", id="yet-to-be-written"),
    ],
)
def test_not_to_be_continued(text: str) -> None:
    assert not is_to_be_continued(text)


@pytest.mark.parametrize(
    ("prompt", "response", "wrong"),
    [
        pytest.param("Write about tea.", "Tea is a drink.", False, id="English"),
        pytest.param("写一篇关于茶的文章", "茶是一种饮料。", False, id="Chinese"),
        pytest.param("Write about tea.", "茶是一种饮料。", True, id="Chinese-for-English"),
        pytest.param("写一篇关于茶的文章", "Tea is a drink.", True, id="English-for-Chinese"),
        pytest.param("用英文写一篇关于茶的文章", "Tea is a drink.", False, id="asks-for-English"),
        pytest.param("用英文写一篇关于茶的文章", "茶是一种饮料。", True, id="English-not-given"),
        pytest.param("把这段话翻译成英文：茶是饮料", "Tea is a drink.", False, id="into-English"),
        pytest.param("Write about tea in Chinese.", "茶是一种饮料。", False, id="asks-for-Chinese"),
        pytest.param("Write about tea.", "Чай — это напиток.", True, id="Russian"),
        pytest.param("Write about tea.", "Le thé est une boisson.", True, id="French"),
        pytest.param("写一篇关于茶的文章", "お茶は飲み物です。", True, id="Japanese-for-Chinese"),
        pytest.param("Write about tea.", "Chá (茶, tea) is a drink.", False, id="foreign-names"),
        pytest.param("写一篇关于AI的文章", "Transformer 是一种模型。", False, id="English-terms"),
        pytest.param("Write about tea.", "", False, id="empty"),
        pytest.param("Write about tea.", "1. 2. 3.", False, id="no-words"),
    ],
)
def test_wrong_language(prompt: str, response: str, wrong: bool) -> None:
    assert is_wrong_language(prompt, response) is wrong


@pytest.mark.parametrize(
    ("text", "share"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param(TEN, 0, id="nothing-twice"),
        pytest.param(TEN + TEN, 10 / 20, id="ten-words-twice"),
        pytest.param(TEN * 4, 30 / 40, id="ten-words-four-times"),
        pytest.param(TEN + "and " + TEN, 10 / 21, id="a-word-between"),
        pytest.param(TEN + TEN[:-4], 0, id="nine-words-of-ten"),
        pytest.param(TEN + TEN.upper().replace(" ", ", 7 "), 10 / 20, id="case-and-digits-aside"),
        pytest.param("ha " * 10, 0, id="one-word-ten-times"),
        pytest.param("ha " * 11, 10 / 11, id="one-word-eleven-times"),
        pytest.param(TWENTY * 2, 20 / 40, id="Chinese-twice"),
        pytest.param(TWENTY + TWENTY[:19], 0, id="Chinese-19-characters"),
    ],
)
def test_repetition_by_hand(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@given(st.text(alphabet="ab 茶。\n", max_size=400))
def test_repetition_is_a_share(text: str) -> None:
    assert 0 <= repetition(text) < 1


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        pytest.param(TEN, [], id="nothing-twice"),
        pytest.param(TEN + "New. " + TEN, [TEN.strip(" .")], id="the-second-of-two"),
        pytest.param(TEN * 3, [(TEN * 2).strip(" .")], id="the-rest-of-three-as-one"),
        pytest.param(TWENTY * 2, [TWENTY], id="Chinese"),
    ],
)
def test_repeated_passages_by_hand(text: str, passages: list[str]) -> None:
    assert [text[start:end] for start, end in repeated_passages(text)] == passages


@given(st.text(alphabet="ab 茶。\n", max_size=400))
def test_repeated_passages_contain_the_words_that_repetition_counts(text: str) -> None:
    def words(part: str) -> int:
        return len(re.findall(r"[\u4e00-\u9fff]|[a-z]+", part))

    passages = [text[start:end] for start, end in repeated_passages(text)]
    counted = sum(map(words, passages)) / max(1, words(text))
    assert counted == pytest.approx(repetition(text))


def test_an_empty_response_has_no_other_fault() -> None:
    found = diagnose("Write about tea.", " \n").as_dict()
    assert list(found) == list(METRICS)
    assert found == {**dict.fromkeys(METRICS, 0.0), "empty": 1.0}


@pytest.mark.parametrize("unit", ["{} ", "{}。", "ha ", "茶", "\n"], ids=repr)
def test_200_000_words_take_less_than_5_seconds(unit: str) -> None:
    dice = random.Random(0)
    words = [unit.format("".join(dice.choices("abcdefgh", k=3))) for _ in range(200_000)]
    start = time.monotonic()
    diagnose("Write about tea.", "".join(words))
    assert time.monotonic() - start < 5
