"""SFT rows from finished texts.

    from agentwrite.sft import sft

    built = sft([Path("runs/texts")], Path("sft.jsonl"))
    print(built.ours, built.rejected)

A row is {"messages": [user, assistant], id, source, language, words, required, length_score,
model}, as axolotl's chat_template strategy reads it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from agentwrite.batch.run_dir import rows_by_id
from agentwrite.data.card import write_card
from agentwrite.data.mix import General, Mix, Mixed, Progress, check_files
from agentwrite.data.sft_rules import RULES, Candidate, Limits, fault
from agentwrite.writing.clean import clean
from longwriter_core.conversation import conversation
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words

DUPLICATE = "duplicate"  # the rule that looks beyond the text
EMPTY = "empty"  # the rule that always holds


@dataclass
class Sft:
    """What became of the texts."""

    mixed: Mixed
    limits: Limits
    without: frozenset[str]
    seed: int
    cleaned: Counter[str] = field(default_factory=Counter)  # rule of agentwrite.clean -> times
    without_length: int = 0  # rows in the file of which no length was required
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # source -> its settings

    @property
    def settings(self) -> dict[str, Any]:
        """All that the file depends on but the texts."""
        own = {**asdict(self.limits), "without": sorted(self.without), "seed": self.seed}
        return own | {
            f"{source}, {name}": value
            for source, settings in self.runs.items()
            for name, value in settings.items()
        }

    @property
    def ours(self) -> int:
        """Texts in the file."""
        return self.mixed.ours

    @property
    def rejected(self) -> Counter[str]:
        """Rule -> texts that it kept out."""
        return self.mixed.rejected


def sft(
    folders: Sequence[Path],
    output: Path,
    *,
    limits: Limits | None = None,
    without: frozenset[str] = frozenset(),
    general: General | None = None,
    seed: int = 42,
    check: bool = True,
    limit: int | None = None,
    progress: Progress = lambda _what: None,
) -> Sft:
    """Write `output` from the texts of run folders; beside it what is left out, a card, a picture.

    Rules in `without` are not applied; `check` leaves out what holds a benchmark's prompt; `limit`
    is how many texts are read of each folder. The same input and seed give the same bytes. Raises
    InputError for input that cannot be used, and OSError, as for a full disk.
    """
    if unknown := without - {*RULES, DUPLICATE}:
        raise InputError(
            f"no rule {', '.join(sorted(unknown))}: the rules are {', '.join([*RULES, DUPLICATE])}"
        )
    sources = check_paths(folders, output, general)
    with Mix(output, seed=seed, check=check) as mix:
        built = Sft(mix.mixed, limits or Limits(), without, seed)
        seen: set[bytes] = set()
        for source, path in sources.items():
            built.runs[source] = _settings(path)
            for row in islice(_texts(path), limit):
                _add(mix, built, source, row, seen)
                progress("texts")
        mix.write(general, _general_columns, progress)
    counts = {
        "Cleaned away, by rule": built.cleaned,
        "No length was required": {"texts": built.without_length},
    }
    write_card(built.mixed, "sft", built.settings, counts)
    return built


def check_paths(folders: Sequence[Path], output: Path, general: General | None) -> dict[str, Path]:
    """Name -> run folder. Raises InputError where one cannot be read, or would be written over."""
    sources = _sources(folders)
    inputs = (folder / name for folder in folders for name in ("texts.jsonl", "failed.jsonl"))
    check_files(output, inputs, general)
    return sources


def _sources(folders: Sequence[Path]) -> dict[str, Path]:
    """Name -> run folder, in the order given; folders of one name get a number."""
    sources: dict[str, Path] = {}
    for folder in folders:
        if not (folder / "texts.jsonl").is_file():
            raise InputError(f"{folder} has no texts.jsonl: name what `agentwrite run -o` wrote")
        name = folder.resolve().name
        if name in sources:
            name = next(f"{name}-{n}" for n in range(2, 10_000) if f"{name}-{n}" not in sources)
        sources[name] = folder
    return sources


def _texts(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "texts.jsonl"
    for row in rows_by_id(path):
        if what := _wrong(row):
            raise InputError(f"{path}, id {row['id']!r}: {what}")
        yield row


def _wrong(row: Mapping[str, Any]) -> str:
    """What `agentwrite run` would not have written; "" where there is nothing."""
    if not all(isinstance(row.get(name), str) for name in ("instruction", "text")):
        return "no instruction or no text"
    if not row["instruction"].strip():
        return "the instruction is empty"
    required, sections = row.get("required"), row.get("sections", [])
    if required is not None and (type(required) is not int or required < 1):
        return f"`required` must be a whole number from 1, or null, not {required!r}"
    if not isinstance(sections, list) or not all(map(_is_section, sections)):
        return "`sections` must be a list of objects with `words` and `target`, whole numbers"
    models = row.get("models", [])
    if not isinstance(models, list) or not all(isinstance(each, str) for each in models):
        return "`models` must be a list of names"
    return ""


def _is_section(section: Any) -> bool:
    return isinstance(section, dict) and all(
        type(section.get(name)) is int for name in ("words", "target")
    )


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "settings.json").read_bytes())
    except (OSError, ValueError):
        return {}  # the texts alone are enough
    return found if isinstance(found, dict) else {}


def _add(mix: Mix, built: Sft, source: str, row: dict[str, Any], seen: set[bytes]) -> None:
    mix.mixed.read[source] += 1
    cleaned = clean(row["text"])
    built.cleaned += cleaned.counts
    text = Candidate(
        _encodable(row["instruction"].strip()),
        _encodable(cleaned.text),
        row.get("required"),
        tuple(row.get("sections", ())),
    )
    rule, detail = "", ""
    if not text.text:
        rule = EMPTY
    elif found := fault(text, built.limits, built.without):
        rule, detail = found.reason, found.detail
    elif DUPLICATE not in built.without and (twin := _is_known(text, seen)):
        rule, detail = DUPLICATE, twin
    elif prompt := mix.overlap(text.instruction):
        rule, detail = "benchmark", prompt
    if rule:
        mix.reject(
            rule, detail=detail, source=source, id=row["id"], words=text.words,
            instruction=text.instruction,
        )  # fmt: skip
        return
    built.without_length += text.required is None
    columns = _columns(
        [{"role": "user", "content": text.instruction}, {"role": "assistant", "content": text.text}]
    )
    columns["required"], columns["length_score"] = text.required, text.length_score
    columns["model"] = ", ".join(row.get("models", ()))
    mix.add(f"{source} {row['id']}", {"id": str(row["id"]), "source": source, **columns})


def _is_known(text: Candidate, seen: set[bytes]) -> str:
    """Whether the instruction or the text was taken before, in words; "" where neither was."""
    marks = {
        what: bytes.fromhex(sha256(" ".join(value.split()).casefold())[:32])
        for what, value in (("instruction", text.instruction), ("text", text.text))
    }
    known = [what for what, mark in marks.items() if mark in seen]
    if not known:
        seen.update(marks.values())
    return " and ".join(known) and f"the same {' and '.join(known)} as an earlier row"


def _columns(messages: list[dict[str, str]]) -> dict[str, Any]:
    """The columns that every row has. Null is what nobody knows of a general row."""
    answer = messages[-1]["content"]
    return {
        "messages": messages,
        "language": main_language(answer),
        "words": count_words(answer),
        "required": None,
        "length_score": None,
        "model": None,
    }


def _general_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return _columns(conversation(row))


def _encodable(text: str) -> str:
    """Half a surrogate pair becomes "?": no loader would read the file."""
    return text.encode("utf-8", "replace").decode()
