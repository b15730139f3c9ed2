"""Makes names and settings from other people safe to display. Pure."""

import re
import unicodedata

# Invisible letters and symbols: Hangul fillers and the empty Braille pattern.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
# Control and format characters, surrogates, private use, line and paragraph separators
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: object, max_length: int | None = 200) -> str:
    """`text` on one line of at most `max_length` characters, safe for a terminal or a page.

    Characters that break the line, are invisible or reverse the text direction become �.
    """
    shown = "".join("�" if _is_hidden(character) else character for character in str(text)).strip()
    if max_length is None or len(shown) <= max_length:
        return shown
    return shown[: max_length - 1] + "…"


def escape_unprintable(name: str) -> str:
    """`name` with escapes instead of unprintable characters; distinct names stay distinct."""
    doubled = name.replace("\\", "\\\\")
    return re.sub(
        ".", lambda m: ascii(m[0])[1:-1] if _is_hidden(m[0]) else m[0], doubled, flags=re.S
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN_CATEGORIES or character in _BLANK
