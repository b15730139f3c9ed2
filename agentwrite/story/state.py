"""What a text has established so far: people, places, facts, open threads. Pure.

A model reads each finished section and reports what is new. The reports are merged here, so that
nothing is lost when a model forgets to repeat it. Prompts show the state in bounded size.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from agentwrite.writing.context import estimate_tokens
from longwriter_core.llm import Rejected, Structured
from longwriter_core.text.thinking import without_thinking

SHOWN_TOKENS = 1_000  # of the state in a prompt
_MAX_CHARACTERS = 300  # of one fact
# The share of the shown tokens that each group may take; what it leaves goes to the next.
_SHARES = {"Open threads": 0.25, "People": 0.4, "Places": 0.15, "Facts": 0.2}


class NewFacts(BaseModel):
    """What a section adds about a person or a place."""

    model_config = ConfigDict(extra="forbid")

    name: str
    facts: list[str]


class StoryUpdate(BaseModel):
    """What a section adds, as structured output."""

    model_config = ConfigDict(extra="forbid")

    people: list[NewFacts]
    places: list[NewFacts]
    facts: list[str]
    threads_opened: list[str]
    threads_closed: list[str]


class Known(BaseModel):
    """A person or a place. `section` is the last one that said something new."""

    name: str
    facts: list[str]
    section: int


class Fact(BaseModel):
    """A fact that belongs to no person or place."""

    text: str
    section: int


class Thread(BaseModel):
    """A question or promise, and the sections that opened and closed it."""

    text: str
    opened: int
    closed: int | None = None


class StoryState(BaseModel):
    """Everything that the sections have established so far."""

    people: list[Known] = []
    places: list[Known] = []
    facts: list[Fact] = []
    threads: list[Thread] = []

    _known: dict[tuple[str, str], Any] = PrivateAttr(default_factory=dict)  # (group, key) -> entry

    def add(self, update: StoryUpdate, section: int) -> None:
        """Merge what a section adds."""
        for group, entries, updates in (
            ("person", self.people, update.people),
            ("place", self.places, update.places),
        ):
            for new in updates:
                self._add_known(group, entries, new, section)
        for text in self._new("fact", update.facts):
            self.facts.append(Fact(text=text, section=section))
        for text in update.threads_closed:
            thread = self._known.get(("thread", _key(_trimmed(text))))
            if thread and thread.closed is None:
                thread.closed = section
        for text in self._new("thread", update.threads_opened):
            thread = self._known["thread", _key(text)] = Thread(text=text, opened=section)
            self.threads.append(thread)

    def shown(self, max_tokens: int = SHOWN_TOKENS) -> str:
        """The state as a prompt shows it: the most recent entries that fit. "" if it is empty."""
        groups = {
            "Open threads": [
                (thread.opened, thread.text) for thread in self.threads if thread.closed is None
            ],
            "People": [(each.section, _line(each)) for each in self.people],
            "Places": [(each.section, _line(each)) for each in self.places],
            "Facts": [(fact.section, fact.text) for fact in self.facts],
        }
        shown, left = [], 0.0
        for name, entries in groups.items():
            left += _SHARES[name] * max_tokens
            lines: list[tuple[int, str]] = []
            for index in sorted(range(len(entries)), key=lambda n: entries[n][0], reverse=True):
                line = f"- {entries[index][1]}"
                if (tokens := estimate_tokens(line)) > left:
                    break
                left -= tokens
                lines.append((index, line))
            if lines:
                shown.append("\n".join([f"{name}:", *(line for _, line in sorted(lines))]))
        return "\n".join(shown)

    def _add_known(self, group: str, entries: list[Known], new: NewFacts, section: int) -> None:
        if not (name := _trimmed(new.name)):
            return
        entry = self._known.get((group, _key(name)))
        if not entry:
            entry = self._known[group, _key(name)] = Known(name=name, facts=[], section=section)
            entries.append(entry)
        for fact in self._new(f"{group} {_key(name)}", new.facts):
            entry.facts.append(fact)
            entry.section = section

    def _new(self, group: str, texts: Iterable[str]) -> Iterable[str]:
        """The texts that the group does not have yet."""
        for text in map(_trimmed, texts):
            if text and (group, _key(text)) not in self._known:
                self._known[group, _key(text)] = None
                yield text


def _line(known: Known) -> str:
    """A person or place with the latest facts that fit in a line."""
    facts: list[str] = []
    for fact in reversed(known.facts):
        if sum(map(len, facts)) + len(fact) > 2 * _MAX_CHARACTERS:
            break
        facts.insert(0, fact)
    return f"{known.name}: {'; '.join(facts)}" if facts else known.name


def _trimmed(text: str) -> str:
    return " ".join(text.split())[:_MAX_CHARACTERS]


def _key(text: str) -> str:
    return text.casefold().strip(" .。")


def structured_update() -> Structured[StoryUpdate]:
    """The JSON schema and reader of an update."""
    return Structured(StoryUpdate, lambda update: update)


def read_update(reply: str) -> StoryUpdate | Rejected:
    """The update in a reply of an endpoint without structured output."""
    answer = without_thinking(reply)
    start, end = answer.find("{"), answer.rfind("}")
    parsed = structured_update().parse(answer[start : end + 1]) if start >= 0 else None
    return Rejected("no_story_state", "no JSON of the form asked for") if parsed is None else parsed
