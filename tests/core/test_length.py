"""S_l and its word counter, against numbers computed by hand and upstream's published formula."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.text.length import bucket, count_words, length_score

LENGTHS = st.integers(1, 30_000)  # words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param(" \n\t，。！… —", 0, id="blanks-and-punctuation"),
        pytest.param("One two, three.", 3, id="English"),
        pytest.param("你好，世界。", 4, id="Chinese"),
        pytest.param("12 345", 0, id="digits"),
        pytest.param("the 3rd of 10", 2, id="digits-touching-letters"),
        pytest.param("don't", 2, id="apostrophe"),
        pytest.param("it’s", 2, id="curly-apostrophe"),
        pytest.param("state-of-the-art", 4, id="hyphens"),
        pytest.param("snake_case", 0, id="underscore"),
        pytest.param("用Python写", 2, id="Latin-touching-Chinese"),
        pytest.param("用 Python 写", 3, id="Latin-beside-Chinese"),
        pytest.param("好。Good。好", 3, id="Latin-between-Chinese-full-stops"),
        pytest.param("ひらがなカタカナ", 0, id="kana"),
        pytest.param("日本語を書く", 4, id="kanji-among-kana"),
        pytest.param("Привет мир", 0, id="Cyrillic"),
        pytest.param("a naïve café plan", 2, id="accented"),
        pytest.param("ＡＢＣ", 0, id="full-width-Latin"),
        pytest.param("\u4dff\u4e00\u9fff\ua000", 2, id="edges-of-the-Chinese-block"),
        pytest.param("㐀𠀀", 0, id="Chinese-extensions"),
    ],
)
def test_count_words_by_hand(text: str, words: int) -> None:
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("required", "words", "score"),
    [
        pytest.param(1000, 1000, 100, id="as-required"),
        pytest.param(1000, 1300, 90, id="1.3-times"),
        pytest.param(1000, 2500, 50, id="2.5-times"),
        pytest.param(1000, 3999, Fraction(1, 30), id="just-under-4-times"),
        pytest.param(1000, 4000, 0, id="4-times"),
        pytest.param(1000, 50_000, 0, id="50-times"),
        pytest.param(1000, 800, Fraction(175, 2), id="four-fifths"),
        pytest.param(1000, 500, 50, id="half"),
        pytest.param(900, 301, Fraction(150, 301), id="just-over-a-third"),
        pytest.param(900, 300, 0, id="a-third"),
        pytest.param(900, 1, 0, id="one-word"),
        pytest.param(900, 0, 0, id="empty"),
    ],
)
def test_length_score_by_hand(required: int, words: int, score: float) -> None:
    assert length_score(required, words) == pytest.approx(float(score), abs=1e-9)


@given(required=LENGTHS, words=LENGTHS)
def test_length_score_is_upstreams_formula(required: int, words: int) -> None:
    if words > required:
        upstream = max(Fraction(0), 1 - (Fraction(words, required) - 1) / 3)
    else:
        upstream = max(Fraction(0), 1 - (Fraction(required, words) - 1) / 2)
    assert length_score(required, words) == pytest.approx(float(100 * upstream), abs=1e-9)


@given(required=LENGTHS, words=st.integers(0, 200_000))
def test_length_score_is_100_only_at_the_required_length_and_0_only_far_from_it(
    required: int, words: int
) -> None:
    score = length_score(required, words)
    assert 0 <= score <= 100
    assert (score == 100) == (words == required)
    assert (score == 0) == (words >= 4 * required or 3 * words <= required)


@given(required=LENGTHS, one=st.integers(0, 130_000), other=st.integers(0, 130_000))
def test_length_score_never_rises_with_the_distance_from_the_required_length(
    required: int, one: int, other: int
) -> None:
    near, far = sorted((one, other), key=lambda words: abs(words - required))
    if (near <= required) == (far <= required):  # on the same side
        assert length_score(required, far) <= length_score(required, near)


@pytest.mark.parametrize(("required", "words"), [(0, 5), (-1, 5), (5, -1)])
def test_length_score_refuses_impossible_lengths(required: int, words: int) -> None:
    with pytest.raises(ValueError, match=f"{required} and {words}"):
        length_score(required, words)


@pytest.mark.parametrize(
    ("required", "name"),
    [
        (0, "[0,500)"),
        (499, "[0,500)"),
        (500, "[500,2k)"),
        (1999, "[500,2k)"),
        (2000, "[2k,4k)"),
        (3999, "[2k,4k)"),
        (4000, "[4k,20k]"),
        (20_000, "[4k,20k]"),
    ],
)
def test_buckets_at_their_bounds(required: int, name: str) -> None:
    assert bucket(required) == name
