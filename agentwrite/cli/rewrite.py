"""`agentwrite rewrite`: some sections of a written text again, by a note."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import options
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.writing.state import Section


def command(
    ctx: typer.Context,
    book: Annotated[
        Path, typer.Argument(metavar="NAME.book", help="folder that `write -o NAME.md` made")
    ],
    sections: Annotated[
        str, typer.Option(metavar="7-9,12", help="numbers of the sections to rewrite")
    ],
    note: Annotated[str, typer.Option(help="what is to be different")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="also adapt all sections that follow, with one call for each"
        ),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="model name at its endpoint; default: the text's")
    ] = None,
    base_url: options.BaseUrls = None,
    max_tokens: options.KeptMaxTokens = None,
    temperature: options.KeptTemperature = None,
    extra: options.KeptExtra = None,
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    seed: options.Seed = None,
    fresh: options.Fresh = False,
) -> int:
    """Rewrite sections of a text by a note; all other sections stay as they are.

    NAME.book and the file with the whole text are updated after each section. The old sections are
    kept in NAME.book/replaced.jsonl.
    """
    from agentwrite.book import book_folder, book_lock, load_book, rewrite_notes
    from agentwrite.errors import WriteError
    from agentwrite.export import check_format
    from agentwrite.write import rewrite_sections

    if not note.strip():
        raise InputError("--note is empty: say what is to be different")
    with book_lock(book_folder(book)):
        loaded = load_book(book)
        check_format(Path(loaded.output))
        count = len(loaded.sections)
        notes = rewrite_notes(_numbers(sections, count), count, note, repair=repair)
        given = {
            "model": model, "max_tokens": max_tokens, "temperature": temperature, "extra": extra
        }  # fmt: skip
        kept = {
            **loaded.settings,
            **{name: value for name, value in given.items() if value is not None},
            "timeout": timeout,
            "max_cost": max_cost,
        }
        urls = base_url or loaded.record.get("base_urls") or None
        settings = Settings.resolve(**{**kept, "base_urls": urls})
        seed = options.chosen_seed(seed, fresh)

        def done(section: "Section") -> None:
            loaded.replace(section.number, section)
            loaded.save_text()
            print(f"section {section.number:>3}  {section.words:>5,} words", file=sys.stderr)

        earlier = loaded.unfinished_rewrite
        left = loaded.begin_rewrite(notes)
        if forgotten := sorted(set(earlier) - set(notes)):
            print(
                f"An earlier rewrite did not reach sections {', '.join(map(str, forgotten))}, "
                "which stay as they were; to rewrite them, name them with --sections, with its "
                f"note: {earlier[forgotten[0]]}",
                file=sys.stderr,
            )
        try:
            rewrite_sections(
                loaded.plan.instruction, loaded.plan.plan, loaded.sections, left, settings,
                bias=loaded.bias, seed=seed, done=done,
            )  # fmt: skip
        except WriteError as error:
            if error.is_fatal and error.reason != "max_cost":
                raise InputError(
                    f"{settings.model} at {settings.where} cannot be used: {error.detail}"
                ) from error
            print(f"agentwrite: not rewritten: {error}; to retry: {ctx.obj}", file=sys.stderr)
            return 1
        print(f"wrote {loaded.save_text()}: {loaded.record['words']:,} words", file=sys.stderr)
    return 0


def _numbers(text: str, count: int) -> list[int]:
    """The numbers that "7-9,12" names. Raises InputError unless all are sections."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?", part)
        if not match:
            raise InputError(f"--sections {text!r} is not a list such as 7-9,12")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= count:
            raise InputError(f"--sections {part.strip()}: the text has sections 1 to {count}")
        numbers.update(range(first, last + 1))
    return sorted(numbers)
