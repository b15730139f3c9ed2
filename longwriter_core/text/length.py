"""Word count, the length score S_l, and the buckets of required length. Pure."""

import re

_CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
_ENGLISH_WORD = re.compile(r"\b[a-zA-Z]+\b")

# Upper bounds of the four buckets, in words. The last bucket includes its bound, because one prompt
# asks for exactly 20000 words.
_BUCKETS = ((500, "[0,500)"), (2000, "[500,2k)"), (4000, "[2k,4k)"))
_LAST_BUCKET = "[4k,20k]"


def count_words(text: str) -> int:
    r"""Words in `text`: Chinese characters (U+4E00..U+9FFF) plus matches of `\b[a-zA-Z]+\b`.

    This reproduces upstream's rule with its quirks, because published scores depend on it: digits
    count 0, "don't" counts 2, and a Latin word next to a Chinese character counts 0, since both
    are `\w`.

    Source: `count_words` in evaluation/eval_length.py of THUDM/LongWriter.
    """
    chinese = 0 if text.isascii() else len(_CHINESE_CHARACTER.findall(text))
    return chinese + len(_ENGLISH_WORD.findall(text))


def length_score(required: int, words: int) -> float:
    """S_l in 0..100: how well an output of `words` words meets a request for `required` words.

    Falls linearly to 0 at four times the required length. For shorter outputs, it falls linearly in
    required / words, to 0 at a third of the required length. An empty output scores 0.

    Raises ValueError unless `required` is positive and `words` is not negative.
    Source: arXiv 2408.07055, section 2, equation 1.
    """
    if required <= 0 or words < 0:
        raise ValueError(f"need required > 0 and words >= 0, not {required} and {words}")
    if words == 0:
        return 0.0
    if words > required:
        return 100 * max(0.0, 1 - (words / required - 1) / 3)
    return 100 * max(0.0, 1 - (required / words - 1) / 2)


def bucket(required: int) -> str:
    """The paper's bucket of required length, in words: "[0,500)" … "[4k,20k]"."""
    return next((name for end, name in _BUCKETS if required < end), _LAST_BUCKET)
