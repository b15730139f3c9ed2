"""The prompts of AgentWrite: the built-in ones, the paper's, or those in a folder.

A prompt starts with the parts that are the same for every step, then shows the text so far, and
ends with the line of the current step. A server can therefore reuse its prefix cache between steps.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agentwrite.writing.plan import Plan
from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.files import sha256

# The placeholders that each prompt may contain.
_ALLOWED = {
    "plan": ("INST", "LENGTH"),
    "chapters": ("INST", "LENGTH"),
    "chapter": ("INST", "PLAN", "STEP", "LENGTH"),
    "write": ("INST", "PLAN", "TEXT", "STEP"),
    "summarise": ("INST", "TEXT"),
    "rewrite": ("INST", "PLAN", "TEXT", "SECTION", "NEXT", "NOTE", "STEP"),
}
# The placeholders that each prompt must contain.
_REQUIRED = {
    **_ALLOWED,
    "plan": ("INST",),
    "summarise": ("TEXT",),
    "rewrite": ("SECTION", "NOTE", "STEP"),
}
_OFFICIAL = ("plan", "write")  # the paper has only these
_PLACEHOLDER = re.compile(r"\$([A-Z]+)\$")


@dataclass(frozen=True)
class Prompts:
    """Prompt templates by name: plan, chapters, chapter, write, summarise, rewrite."""

    name: str
    templates: Mapping[str, str]

    @classmethod
    def load(cls, prompts: str = "longwriter") -> "Prompts":
        """Load the prompts named by a setting: longwriter (built in), official, or a folder.

        The paper has only plan.txt and write.txt. The built-in prompts replace those that the paper
        or a folder lacks. Raises InputError that lists all problems.
        """
        templates = {
            name: (files("agentwrite.writing.prompts") / f"{name}.txt").read_text(encoding="utf-8")
            for name in _ALLOWED
        }
        if prompts == "official":
            templates |= {name: benchmarks.read(f"{name}.txt") for name in _OFFICIAL}
        elif prompts != "longwriter":
            templates |= _read_folder(Path(prompts).expanduser())
        return cls(Path(prompts).name, templates)

    @property
    def sha256(self) -> str:
        """SHA-256 of the templates used to write a text, which are all but `rewrite`."""
        writing = {name: text for name, text in self.templates.items() if name != "rewrite"}
        return sha256(json.dumps(writing, sort_keys=True))

    @property
    def is_official(self) -> bool:
        """Whether these are the paper's prompts, with which texts are written as upstream does."""
        return self.name == "official"

    def plan_of(self, plan: Plan, number: int) -> str:
        """The plan as the prompt for step `number` shows it; the paper shows all of it."""
        return plan.text if self.is_official else plan.shown(number)

    def render(self, name: str, **texts: str) -> str:
        """Fill the placeholders of a prompt."""
        return fill(self.templates[name], texts)


def fill(template: str, texts: Mapping[str, str]) -> str:
    """Fill placeholders such as $INST$ in one pass, so that inserted text is never expanded."""
    return _PLACEHOLDER.sub(lambda place: texts[place[1].lower()], template).rstrip("\n")


def _read_folder(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise InputError(
            f"no prompts at {str(folder)!r}: name longwriter, official, or a folder that holds "
            f"one or more of {', '.join(f'{name}.txt' for name in _ALLOWED)}"
        )
    templates, problems = {}, []
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in _ALLOWED:
            problems.append(f"{path.name} is not a prompt (known: {', '.join(_ALLOWED)})")
            continue
        try:
            templates[path.stem] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"cannot read {path.name} ({error})")
            continue
        present = _PLACEHOLDER.findall(templates[path.stem])
        for place in _REQUIRED[path.stem]:
            if place not in present:
                problems.append(f"{path.name} must contain ${place}$")
        for place in sorted(set(present).difference(_ALLOWED[path.stem])):
            problems.append(f"{path.name} has an unknown place ${place}$")
    if not templates and not problems:
        problems.append(f"none of {', '.join(f'{name}.txt' for name in _ALLOWED)} is there")
    if problems:
        raise InputError(f"prompts in {folder}: {'; '.join(problems)}")
    return templates
