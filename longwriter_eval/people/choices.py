"""Pairs of responses to show, and the file of the choices that people made between them.

A line of the file is one choice: prompt id, person, the better response ("a", "b" or "tie"), the
response that was shown on the left, both responses' SHA-256, the seconds that the pair was on the
screen, and the time. The last line of a person about a prompt counts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.jsonl import append_jsonl, drop_torn_line, read_jsonl
from longwriter_eval.pairwise.comparison import shared_prompts
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples

Side = Literal["a", "b"]
Better = Literal["a", "b", "tie"]
Shown = Literal["left", "right", "tie"]  # a choice as the page knows it

MAX_NAME = 60  # characters
_SWAPPED: dict[Better, Better] = {"a": "b", "b": "a", "tie": "tie"}


@dataclass(frozen=True)
class Pair:
    """Two different responses to one prompt."""

    id: str
    instruction: str
    a: str
    b: str


@dataclass(frozen=True)
class Choice:
    """What one person chose between two responses."""

    id: str
    person: str
    better: Better
    left: Side  # the response that was shown on the left
    a_sha256: str
    b_sha256: str
    seconds: float | None = None  # on the screen
    date: str = ""  # ISO 8601, UTC

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Choice":
        """A line of the file. Raises ValueError for one that `longwriter annotate` cannot make."""
        names = ("id", "person", "better", "left", "a_sha256", "b_sha256")
        if not all(isinstance(row.get(name), str) and row[name] for name in names):
            raise ValueError(f"it needs {', '.join(names)} as text")
        if row["better"] not in get_args(Better) or row["left"] not in get_args(Side):
            raise ValueError("`better` is a, b or tie, and `left` is a or b")
        given = {name: row[name] for name in (*names, "seconds", "date") if name in row}
        return cls(**given)


def pairs_of(a: Run, b: Run) -> list[Pair]:
    """The pairs to choose between: the prompts that both runs answered, and answered differently.

    Raises InputError if there is none.
    """
    a_scores, b_scores = (
        {score.sample.id: score for score in score_samples(run.samples)} for run in (a, b)
    )
    pairs = different(shared_prompts(a_scores, b_scores))
    if not pairs:
        raise InputError(f"{a.path} and {b.path} have no prompt with two different responses")
    return pairs


def different(scores: Iterable[tuple[Score, Score]]) -> list[Pair]:
    """The pairs whose responses differ; between equal ones there is nothing to choose."""
    return [
        Pair(a.sample.id, a.sample.prompt, a.text, b.text) for a, b in scores if a.text != b.text
    ]


class Choices:
    """The choices in a file, and new ones, each on disk before `choose` returns.

    All people see the pairs in one random order, so that those who stop early have judged the same
    prompts. Which response is on the left is random for each person and pair. Both depend only on
    `seed`, so a restart shows the same.

    Raises InputError for a file that `longwriter annotate` has not made.
    """

    def __init__(self, pairs: Sequence[Pair], path: Path, seed: int = 0) -> None:
        self.pairs = sorted(pairs, key=lambda pair: _random(seed, pair.id))
        self.path, self._seed = path, seed
        drop_torn_line(path)
        self._shown = {pair.id: (sha256(pair.a), sha256(pair.b)) for pair in pairs}
        self._last: dict[tuple[str, str], Choice] = {}
        for choice in read_choices(path) if path.exists() else ():
            if better := _as_shown(choice, self._shown):
                self._last[choice.person, choice.id] = Choice(
                    **{**asdict(choice), "better": better}
                )

    def __len__(self) -> int:
        return len(self._last)

    @property
    def people(self) -> int:
        """The number of people who have chosen."""
        return len({person for person, _ in self._last})

    def left(self, person: str, pair: Pair) -> Side:
        """The response that a person sees on the left."""
        return "a" if _random(self._seed, pair.id, person) % 2 else "b"

    def shown(self, person: str, pair: Pair) -> Shown | None:
        """A person's choice as the page shows it; None without one."""
        choice = self._last.get((person, pair.id))
        if choice is None:
            return None
        if choice.better == "tie":
            return "tie"
        return "left" if choice.better == self.left(person, pair) else "right"

    def choose(self, person: str, pair: Pair, better: Shown, seconds: float | None) -> None:
        """Record a choice. Raises OSError if it cannot be written; then it does not count."""
        left = self.left(person, pair)
        sides: dict[Shown, Better] = {
            "left": left, "right": "b" if left == "a" else "a", "tie": "tie"
        }  # fmt: skip
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        choice = Choice(
            pair.id,
            person,
            sides[better],
            left,
            *self._shown[pair.id],
            seconds and round(seconds, 1),
            now,
        )
        append_jsonl(self.path, asdict(choice))
        self._last[person, pair.id] = choice


def read_choices(path: Path) -> list[Choice]:
    """The choices in a file, in its order. Raises InputError that names the line."""
    choices = []
    for number, row in read_jsonl(path):
        try:
            choices.append(Choice.of(row))
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not a choice of `longwriter annotate`: {error}"
            ) from error
    return choices


def valid_choices(pairs: Sequence[Pair], choices: Sequence[Choice]) -> dict[str, dict[str, Better]]:
    """Prompt id -> person -> the better response of `pairs`.

    Choices between other responses are left out. The runs may be in the other order than when the
    choices were made.
    """
    shown = {pair.id: (sha256(pair.a), sha256(pair.b)) for pair in pairs}
    found: dict[str, dict[str, Better]] = {}
    for choice in choices:
        if better := _as_shown(choice, shown):
            found.setdefault(choice.id, {})[choice.person] = better
    return found


def _as_shown(choice: Choice, shown: dict[str, tuple[str, str]]) -> Better | None:
    """The better of two responses, given by their hashes; None if the choice is about others."""
    hashes = (choice.a_sha256, choice.b_sha256)
    if shown.get(choice.id) == hashes:
        return choice.better
    if shown.get(choice.id) == hashes[::-1]:
        return _SWAPPED[choice.better]
    return None


def _random(seed: int, *names: str) -> int:
    """A number that looks random and depends only on the arguments."""
    text = "\n".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])
