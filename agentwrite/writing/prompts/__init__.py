"""The prompts of AgentWrite: ours, the paper's, or a folder's.

What stays the same comes first in them, the text so far after it, and only the step's own line
last, so that a server can reuse its prefix cache from one step to the next.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.files import sha256

# The places that each prompt may hold; of them, those that it must hold.
_PLACES = {
    "plan": ("INST", "LENGTH"),
    "chapters": ("INST", "LENGTH"),
    "chapter": ("INST", "PLAN", "STEP", "LENGTH"),
    "write": ("INST", "PLAN", "TEXT", "STEP"),
    "summarise": ("INST", "TEXT"),
    "rewrite": ("INST", "PLAN", "TEXT", "SECTION", "NEXT", "NOTE", "STEP"),
}
_NEEDED = {
    **_PLACES,
    "plan": ("INST",),
    "summarise": ("TEXT",),
    "rewrite": ("SECTION", "NOTE", "STEP"),
}
_OFFICIAL = ("plan", "write")  # the paper has no more
_PLACE = re.compile(r"\$([A-Z]+)\$")


@dataclass(frozen=True)
class Prompts:
    """The prompts by name: plan, chapters, chapter, write, summarise, rewrite."""

    name: str
    templates: Mapping[str, str]

    @classmethod
    def load(cls, prompts: str = "longwriter") -> "Prompts":
        """The prompts that a setting names: longwriter (ours), official, or a folder.

        The paper's are plan.txt and write.txt; what it, or a folder, does not have is ours.
        Raises InputError that lists every problem at once.
        """
        templates = {
            name: (files("agentwrite.writing.prompts") / f"{name}.txt").read_text(encoding="utf-8")
            for name in _PLACES
        }
        if prompts == "official":
            templates |= {name: benchmarks.read(f"{name}.txt") for name in _OFFICIAL}
        elif prompts != "longwriter":
            templates |= _read_folder(Path(prompts).expanduser())
        return cls(Path(prompts).name, templates)

    @property
    def sha256(self) -> str:
        """Of all templates that write a text."""
        writing = {name: text for name, text in self.templates.items() if name != "rewrite"}
        return sha256(json.dumps(writing, sort_keys=True))

    def render(self, name: str, **texts: str) -> str:
        """A prompt with its places filled, all at once: no text can hold a place for another."""
        return _PLACE.sub(lambda place: texts[place[1].lower()], self.templates[name]).rstrip("\n")


def _read_folder(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise InputError(
            f"no prompts at {str(folder)!r}: name longwriter, official, or a folder that holds "
            f"one or more of {', '.join(f'{name}.txt' for name in _PLACES)}"
        )
    templates, problems = {}, []
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in _PLACES:
            problems.append(f"{path.name} is not a prompt (known: {', '.join(_PLACES)})")
            continue
        try:
            templates[path.stem] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"cannot read {path.name} ({error})")
            continue
        found = _PLACE.findall(templates[path.stem])
        for place in _NEEDED[path.stem]:
            if place not in found:
                problems.append(f"{path.name} must contain ${place}$")
        for place in sorted(set(found).difference(_PLACES[path.stem])):
            problems.append(f"{path.name} has an unknown place ${place}$")
    if not templates and not problems:
        problems.append(f"none of {', '.join(f'{name}.txt' for name in _PLACES)} is there")
    if problems:
        raise InputError(f"prompts in {folder}: {'; '.join(problems)}")
    return templates
