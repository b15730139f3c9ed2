"""The language of a text."""

import re
from typing import Literal

Language = Literal["en", "zh"]

_ENGLISH = re.compile(r"\b[a-zA-Z]+\b")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def main_language(text: str) -> Language:
    """The language that most of the text's words belong to; English where there are none."""
    chinese = len(_CHINESE.findall(text))
    return "zh" if chinese and chinese > len(_ENGLISH.findall(text)) else "en"
