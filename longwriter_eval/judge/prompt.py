"""The judge's prompt, and inserting untrusted text into it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.files import sha256

BUILT_IN = ("official", "longwriter")  # any other name is a file path

_INST, _RESPONSE = "$INST$", "$RESPONSE$"


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt template with placeholders for the request ($INST$) and response ($RESPONSE$)."""

    template: str

    @classmethod
    def load(cls, prompt: str) -> "JudgePrompt":
        """The prompt that a setting names. Raises InputError if it is unusable."""
        if prompt == "official":
            return cls(benchmarks.read("judge.txt"))
        if prompt == "longwriter":
            return cls((files("longwriter_eval.judge") / "prompt.txt").read_text(encoding="utf-8"))
        try:
            template = Path(prompt).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read judge_prompt {prompt!r} ({error}): it must be official, longwriter, "
                "or a file"
            ) from error
        missing = [place for place in (_INST, _RESPONSE) if template.count(place) != 1]
        if missing:
            raise InputError(f"judge_prompt {prompt}: must contain {' and '.join(missing)} once")
        return cls(template)

    @property
    def sha256(self) -> str:
        """SHA-256 of the template."""
        return sha256(self.template)

    def render(self, instruction: str, response: str) -> tuple[str, bool]:
        """The prompt for one response, and whether a tag in either text had to be escaped."""
        return fill(self.template, {_INST: instruction, _RESPONSE: response})


def fill(template: str, texts: Mapping[str, str]) -> tuple[str, bool]:
    """`template` with its placeholders ($INST$ …) replaced, and whether a tag was escaped.

    All texts are inserted at once, so a placeholder in one text is not replaced by another. A tag
    of the template that occurs in a text, such as </Response>, has its "<" written as "&lt;", so
    that it cannot end its section. Texts without such a tag are inserted byte for byte.
    """
    tags = set(re.findall(r"</?\s*([A-Za-z][\w ]*?)\s*>", template))
    fence = re.compile(
        r"<(?=\s*(?:/\s*)?(?:" + "|".join(r"\s+".join(tag.split()) for tag in tags) + r")\b)",
        re.IGNORECASE,
    )
    fenced = {place: fence.sub("&lt;", text) if tags else text for place, text in texts.items()}
    places = "|".join(map(re.escape, texts))
    return re.sub(places, lambda place: fenced[place[0]], template), fenced != texts
