"""A saved link between two judges, for the commands that show bridged scores beside the original.

A bridged score is a conversion, not a verdict: it is marked wherever it is shown, and it takes no
part in tests and ranks.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_eval.calibration import Link
from longwriter_eval.judge.settings import PAPERS_PROTOCOL, protocol_text

MARK = "≈"  # stands before every bridged score


@dataclass(frozen=True)
class JudgeIdentity:
    """What makes a judge's scale: its model, its request settings and its prompt."""

    model: str
    protocol: str
    prompt_sha256: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "JudgeIdentity":
        """The judge in a task's record in the results."""
        judge = record["judge"]
        return cls(str(judge["model"]), protocol_text(judge), str(record["judge_prompt_sha256"]))

    def __str__(self) -> str:
        settings = "" if self.protocol == PAPERS_PROTOCOL else f" ({self.protocol})"
        return f"{self.model}{settings}, prompt {self.prompt_sha256[:8]}"


@dataclass(frozen=True)
class Bridge:
    """The link from the scale of `source` to that of `target`."""

    source: JudgeIdentity
    target: JudgeIdentity
    link: Link

    def save(self, path: Path) -> None:
        """Write the bridge as JSON. Raises OSError."""
        slope = self.link.slope_interval
        record = {
            "from": self.source.model,
            "to": self.target.model,
            "judges": {"from": asdict(self.source), "to": asdict(self.target)},
            **asdict(self.link),
            "slope_interval": [slope.low, slope.high],
        }
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Bridge":
        """Read a bridge. Raises InputError if the file is none."""
        try:
            record = json.loads(path.read_bytes())
            judges = record["judges"]
            link = {name: record[name] for name in Link.__dataclass_fields__}
            read = TypeAdapter(JudgeIdentity).validate_python
            return cls(
                read(judges["from"]),
                read(judges["to"]),
                TypeAdapter(Link).validate_python(link),
            )
        except OSError as error:
            raise InputError(f"cannot read {path} ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = "wrong values" if isinstance(error, ValidationError) else repr(error)
            raise InputError(
                f"{path} is not a link of this version ({what}): write it with `longwriter "
                "calibrate … --output FILE`"
            ) from error
