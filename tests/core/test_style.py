"""Over-used words and variety of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.text.style import diversity, slop, type_token_ratio


@pytest.mark.parametrize(
    ("text", "hits", "words"),
    [
        pytest.param("", 0, 1, id="empty"),
        pytest.param("123. 456.", 0, 1, id="no-words"),
        pytest.param("The boat left at nine.", 0, 5, id="plain"),
        pytest.param("A tapestry, a Tapestry.", 2, 4, id="words-in-any-case"),
        pytest.param("It was not just rain but snow.", 1, 7, id="not-just-but"),
        pytest.param("Her voice barely above a whisper.", 1, 6, id="phrase"),
        pytest.param("船九点开。", 0, 4, id="plain-Chinese"),
        pytest.param("综上所述，这不仅是机遇，更是挑战。", 2, 14, id="Chinese-phrases"),
    ],
)
def test_slop_is_a_rate_per_1000_words(text: str, hits: int, words: int) -> None:
    assert slop(text) == pytest.approx(1000 * hits / words)


@pytest.mark.parametrize(
    ("words", "window", "share"),
    [
        pytest.param("", 3, 0, id="empty"),
        pytest.param("a a a a", 2, 1 / 2, id="one-word"),
        pytest.param("a b a b", 2, 1, id="repeats-outside-the-window"),
        pytest.param("a b a c", 3, (2 / 3 + 1) / 2, id="mean-over-windows"),
        pytest.param("a b a", 9, 2 / 3, id="shorter-than-the-window"),
    ],
)
def test_type_token_ratio_by_hand(words: str, window: int, share: float) -> None:
    assert type_token_ratio(words.split(), window) == pytest.approx(share)


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.integers(1, 12))
def test_type_token_ratio_equals_its_definition(words: list[str], window: int) -> None:
    size = min(window, len(words))
    starts = range(len(words) - size + 1) if size else ()
    windows = [words[start : start + size] for start in starts]
    expected = sum(len(set(part)) / size for part in windows) / len(windows) if windows else 0
    assert type_token_ratio(words, window) == pytest.approx(expected)


def test_diversity_does_not_fall_with_length_and_is_low_for_a_loop() -> None:
    prose = " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}" for i in range(150))
    assert diversity(prose) == diversity(prose + " " + prose) == 1
    assert diversity("the sea was calm. " * 100) == pytest.approx(4 / 100)
    assert diversity("海很平静。" * 200) == pytest.approx(4 / 200)
