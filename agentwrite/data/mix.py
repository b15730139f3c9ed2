"""Ours and general rows, mixed by ratio and shuffled into one file, with what was left out."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentwrite.data.shuffled import Sample, write_shuffled
from agentwrite.selecting.sources import open_source
from longwriter_core.conversation import UnusableRowError
from longwriter_core.errors import InputError
from longwriter_core.files import open_atomically, sha256
from longwriter_core.jsonl import jsonl_line
from longwriter_core.overlap import PromptIndex, benchmark_prompts

_BESIDE = (".rejects.jsonl", ".md", ".png")  # what is written beside the rows

Progress = Callable[[str], None]  # called with "texts" or "general rows" for each row read


@dataclass(frozen=True)
class General:
    """A general set: `ratio` of its rows for each of ours, drawn from `split`."""

    source: str
    ratio: float
    split: str = "train"

    @property
    def name(self) -> str:
        """The source, without local folders."""
        path = Path(self.source).expanduser()
        return path.name if path.exists() else self.source


@dataclass
class Mixed:
    """What became of the rows."""

    output: Path
    read: Counter[str] = field(default_factory=Counter)  # source -> rows
    taken: Counter[str] = field(default_factory=Counter)  # source -> rows
    rejected: Counter[str] = field(default_factory=Counter)  # of ours, by rule
    unusable: Counter[str] = field(default_factory=Counter)  # of the general set, by reason
    overlaps: Counter[str] = field(default_factory=Counter)  # benchmark prompt -> rows left out
    checked: bool = True  # against the benchmarks' prompts
    general: General | None = None
    general_source: str = ""  # its name among the sources
    general_wanted: int = 0
    models: Counter[str] = field(default_factory=Counter)  # of ours
    words: dict[str, "array[int]"] = field(default_factory=dict)  # of ours, by language

    @property
    def ours(self) -> int:
        """Rows of ours in the file."""
        return sum(map(len, self.words.values()))

    @property
    def general_taken(self) -> int:
        """General rows in the file."""
        return self.taken[self.general_source]

    @property
    def rejects(self) -> Path:
        """The file that names each row that was left out, with its reason."""
        return beside(self.output, ".rejects.jsonl")


def beside(output: Path, ending: str) -> Path:
    """A file that stands beside `output` under its name."""
    return output.with_name(output.name.removesuffix(".jsonl") + ending)


def check_files(output: Path, inputs: Iterable[Path], general: General | None) -> None:
    """Raise InputError where the mix would fail, or destroy what it reads: before anything is paid.

    `inputs` are files that the rows come from, or what they were made of.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file for the rows")
    written = {output.resolve(), *(beside(output, ending).resolve() for ending in _BESIDE)}
    for path in inputs:
        if path.resolve() in written:
            raise InputError(f"{output} would overwrite {path}: choose another name")
    if general:
        open_source(general.source, general.split)
        source = Path(general.source).expanduser().resolve()
        if source in written or (source.is_dir() and output.resolve().is_relative_to(source)):
            raise InputError(
                f"{output} would become part of the general set {general.name}: choose another name"
            )


class Mix:
    """Use as a context: add ours, then the general rows, then `write`."""

    def __init__(self, output: Path, *, seed: int, check: bool) -> None:
        self.mixed = Mixed(output, checked=check)
        self._seed = seed
        self._index = PromptIndex(benchmark_prompts()) if check else None

    def __enter__(self) -> Self:
        """Raises OSError where the output's folder cannot be written."""
        with ExitStack() as stack:
            self._rejects = stack.enter_context(open_atomically(self.mixed.rejects))
            self._ours = stack.enter_context(Sample(self.mixed.output.parent, self._seed))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._open.__exit__(kind, error, trace)
        finally:
            if isinstance(error, OSError) and not error.filename:  # of a write; it names no file
                raise InputError(
                    f"cannot write {self.mixed.output} ({error.strerror}): free space there"
                ) from error

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Take a row of ours, with `source`, `language`, `words` and `model`."""
        if self._ours.add(key, row):
            self.mixed.taken[row["source"]] += 1
            self.mixed.models[row["model"]] += 1
            self.mixed.words.setdefault(row["language"], array("I")).append(row["words"])

    def reject(self, rule: str, **what: Any) -> None:
        """Leave a row of ours out, and say so in the rejects file."""
        self.mixed.rejected[rule] += 1
        self._rejects.write(jsonl_line({"reason": rule, **what}))

    def overlap(self, *texts: str) -> str | None:
        """The benchmark prompt that one of the texts holds; None also where none is looked for."""
        for text in texts if self._index else ():
            if self._index and (found := self._index.find(text, None)):
                self.mixed.overlaps[found.prompt_id] += 1
                return found.prompt_id
        return None

    def write(
        self,
        general: General | None,
        usable: Callable[[Mapping[str, Any]], dict[str, Any]],
        progress: Progress,
    ) -> Mixed:
        """Draw the general rows, write all, and return what became of them.

        `usable` makes of a general row its columns, or raises UnusableRowError.
        """
        mixed = self.mixed
        samples = [self._ours]
        if general:
            mixed.general = general
            is_taken = general.name in mixed.read  # by a source of ours
            mixed.general_source = f"{general.name}, general" if is_taken else general.name
            mixed.general_wanted = round(general.ratio * len(self._ours))
            drawn = Sample(mixed.output.parent, self._seed, mixed.general_wanted)
            samples.append(self._open.enter_context(drawn))
            rows = open_source(general.source, general.split).rows
            for number, row in enumerate(rows, 1):
                self._add_general(number, row, usable, drawn)
                progress("general rows")
            mixed.taken[mixed.general_source] += len(drawn)
        with open_atomically(mixed.output) as file:
            write_shuffled(file, samples)
        return mixed

    def _add_general(
        self,
        number: int,
        row: Mapping[str, Any],
        usable: Callable[[Mapping[str, Any]], dict[str, Any]],
        drawn: Sample,
    ) -> None:
        source = self.mixed.general_source
        self.mixed.read[source] += 1
        reason, detail = "duplicate", ""
        try:
            columns = usable(row)
            asked = [turn["content"] for turn in columns["messages"] if turn["role"] == "user"]
            if found := self.overlap(*asked):
                reason, detail = "benchmark", found
            elif drawn.add(
                sha256(jsonl_line(columns)),
                {"id": str(row.get("id") or number), "source": source, **columns},
            ):
                return
        except UnusableRowError as error:
            reason = str(error)
        self.mixed.unusable[reason] += 1
        line = {"reason": reason, "source": source, "row": number, "detail": detail}
        self._rejects.write(jsonl_line(line))
