"""The record of a submission that was judged again, beside its file, for the leaderboard.

`NAME.rejudged.json` belongs to `NAME.zip`. It is written by `longwriter verify --rejudge`, and only
a maintainer may add it to a collection of submissions: a submitter could write anything into it.
"""

import logging
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longwriter_core.files import write_atomically
from longwriter_core.text.printable import printable

_log = logging.getLogger(__name__)
_MAX_SIZE = 1 << 18  # bytes
_MAX_OUTCOMES = 100

_Text = Annotated[str, Field(max_length=1000)]
_Points = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class Outcome(BaseModel):
    """One rejudging: the mean of claimed minus new S_q over `pairs` responses, and its test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    judge: _Text  # as the leaderboard shows it
    endpoints: list[_Text] = Field(max_length=8)  # where the verifier asked it, in words
    seed: int = Field(ge=0)
    pairs: int = Field(ge=1, le=200)
    difference: _Points
    low: _Points | None  # of the 95% interval
    high: _Points | None
    p_value: float = Field(ge=0, le=1)
    consistent: bool


class Record(BaseModel):
    """Every outcome for one submission, the newest last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: str = Field(alias="schema", pattern="^longwriter-rejudged/1$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # of the submission
    outcomes: list[Outcome] = Field(min_length=1, max_length=_MAX_OUTCOMES)

    @property
    def newest(self) -> Outcome:
        """The newest outcome."""
        return self.outcomes[-1]

    @property
    def is_consistent(self) -> bool:
        """Whether no outcome contradicts the claimed scores: a second try excuses nothing."""
        return all(outcome.consistent for outcome in self.outcomes)


def record_path(submission: Path) -> Path:
    """Where the record of a submission stands."""
    return submission.with_name(f"{submission.stem}.rejudged.json")


def load(submission: Path, sha256: str) -> Record | None:
    """The record of a submission with this hash; None if it has none, or one that is unusable."""
    path = record_path(submission)
    try:
        if not path.is_file() or path.stat().st_size > _MAX_SIZE:
            raise FileNotFoundError
        found = Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s is ignored: %s", printable(path), error.strerror)
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = printable(f"{place}: {first['msg']}" if place else first["msg"])
        _log.warning("%s is ignored: it is no record of --rejudge (%s)", printable(path), what)
        return None
    if found.sha256 != sha256:
        _log.warning("%s is ignored: it belongs to another file", printable(path))
        return None
    return found


def add(submission: Path, sha256: str, outcome: Outcome) -> Path:
    """Add an outcome to the record of a submission; the same sample again replaces its outcome.

    Returns the path. Raises OSError.
    """
    before = load(submission, sha256)
    kept = [
        old
        for old in (before.outcomes if before else ())
        if (old.seed, old.judge, old.endpoints) != (outcome.seed, outcome.judge, outcome.endpoints)
    ]
    outcomes = [*kept, outcome][-_MAX_OUTCOMES:]
    found = Record(schema="longwriter-rejudged/1", sha256=sha256, outcomes=outcomes)
    path = record_path(submission)
    write_atomically(path, (found.model_dump_json(indent=2, by_alias=True) + "\n").encode())
    return path
