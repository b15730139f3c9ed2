"""The language of a text."""

import math
import re
from functools import cache
from typing import Any, Literal

Language = Literal["en", "zh"]

_ENGLISH_WORD = re.compile(r"\b[a-zA-Z]+\b")
_CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")

# py3langid knows 140 languages. Only common ones are allowed, because on short or unusual texts a
# rare language sometimes scores highest by chance.
_CANDIDATES = frozenset(
    ("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu",
     "id", "it", "ja", "ko", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi",
     "zh")
)  # fmt: skip
# How much more likely another language must be, as log-odds divided by the square root of the
# text's bytes (the square root, because a text's words are not independent evidence). Sentences in
# French, German, Spanish or Malay reach 7 to 18 against English, and Japanese reaches 16 against
# Chinese. Random syllables reach up to 6; code, tables and word lists stay below 1.
_MIN_EVIDENCE = 6.5
_PASSAGES, _PASSAGE = 20, 1_000  # sample of a longer text: passages, and characters each

# In bytes: the length of a segment, the longest feature of py3langid's model, and the length from
# which a text is cut into segments.
_SEGMENT, _REACH, _MIN_SEGMENTED = 24, 8, 2_000


def main_language(text: str) -> Language:
    """English or Chinese, by the script of most words; English if there are no words.

    Counts words as the benchmarks do.
    """
    chinese = len(_CHINESE_CHARACTER.findall(text))
    return "zh" if chinese and chinese > len(_ENGLISH_WORD.findall(text)) else "en"


def language_of(text: str) -> str:
    """The code of a text's language: `main_language`, unless another is clearly more likely."""
    main = main_language(text)
    best, evidence = _best(text, main)
    return best if evidence >= _MIN_EVIDENCE else main


def is_written_in(text: str, language: str) -> bool:
    """Whether `text` is in `language`: no other language is clearly more likely.

    True for a text without letters. The first call loads py3langid's model: about a second and
    75 MB. After that a text takes a few milliseconds.
    """
    return _best(text, language)[1] < _MIN_EVIDENCE


def _best(text: str, language: str) -> tuple[str, float]:
    """The most likely language, and how much more likely than `language` it is."""
    if not _LETTER.search(text):
        return language, 0.0
    text = _sample(text)
    scores: dict[str, float] = dict(_identifier().rank(text))
    best = max(_CANDIDATES, key=lambda candidate: scores[candidate])
    return best, (scores[best] - scores[language]) / math.sqrt(len(text.encode("utf-8", "replace")))


def _sample(text: str) -> str:
    """Passages spread over a long text, so that detection takes only a few milliseconds."""
    if len(text) <= _PASSAGES * _PASSAGE:
        return text
    step = (len(text) - _PASSAGE) / (_PASSAGES - 1)
    starts = (round(number * step) for number in range(_PASSAGES))
    return "\n".join(text[start : start + _PASSAGE] for start in starts)


@cache
def _identifier() -> Any:
    """py3langid's identifier, with a faster walk over the text.

    The library reads byte by byte through an automaton whose state depends on the last bytes only.
    So a text can be cut into short segments that are walked at the same time, each after a few
    bytes of the one before. The scores are the library's.
    """
    import numpy as np  # imported here because it takes a tenth of a second
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    class Identifier(LanguageIdentifier):  # type: ignore[misc]  # the library has no types
        def _raw_score(self, text: bytes) -> Any:
            if len(text) < _MIN_SEGMENTED:
                return super()._raw_score(text)
            segments = -(-len(text) // _SEGMENT)
            # UTF-8 has no byte 255, so it resets the automaton before and after the text
            padded = np.full(_REACH + segments * _SEGMENT, 255, np.uint8)
            padded[_REACH : _REACH + len(text)] = np.frombuffer(text, np.uint8)
            bytes_of = np.lib.stride_tricks.sliding_window_view(padded, _REACH + _SEGMENT)
            columns = bytes_of[::_SEGMENT].T.astype(np.int64)
            states, visited = np.zeros(segments, np.int64), []
            for step, letters in enumerate(columns):
                states = next_state[row_start[states] + letters]
                if step >= _REACH:
                    visited.append(outputs[states])
            features = np.stack(visited).T.ravel()
            counts = np.bincount(features[features >= 0])
            visits = {feature: counts[feature] for feature in np.flatnonzero(counts)}
            return self._sparse_score(visits, self.nb_ptc) if visits else super()._raw_score(text)

    identifier = Identifier.from_model_file(MODEL_FILE)
    identifier.set_languages(sorted(_CANDIDATES))
    next_state = np.asarray(identifier.tk_nextmove)
    row_start = np.asarray(identifier.tk_row, dtype=np.int64) << 8
    outputs = np.asarray(identifier.tk_output, dtype=np.int64)
    return identifier
