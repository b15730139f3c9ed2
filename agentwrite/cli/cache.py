"""`agentwrite cache`: what the store of finished calls holds, and how to trim it."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from longwriter_core.llm import StoredCall

_DAY = 86_400  # seconds
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_USES = {
    "agentwrite": "writing", "agentwrite_serve": "serving", "serve": "serving",
    "judge": "judging", "check": "preflight",
}  # fmt: skip


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="run folder; by default the user's cache"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="only calls of this model")
    ] = None,
    use: Annotated[
        str | None, typer.Option(metavar="NAME", help="only calls for this use, as in the table")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="only calls stored before that")
    ] = None,
    trim: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="delete the oldest of these calls until SIZE is left, such as 500M; 0 deletes all",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what --trim would delete; delete nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Show the stored calls by use and model, and trim them.

    Finished calls are stored so that nothing is paid for twice. A call that was deleted is made
    again, and paid for again, if a command needs it.
    """
    from longwriter_core.llm import Store

    store = Store(_calls_of(folder) if folder else None)
    cutoff = time.time() - older_than * _DAY if older_than is not None else None
    calls = [
        call
        for call in store.calls()
        if (model is None or call.model == model)
        and (use is None or _use(call) == use)
        and (cutoff is None or call.time < cutoff)
    ]
    if trim is not None:
        return _trim(calls, _bytes(trim), dry_run=dry_run)
    _show(calls, store.folder, as_json=as_json)
    return 0


def _calls_of(folder: Path) -> Path:
    for path in (folder / "calls", folder):
        if path.name == "calls" and path.is_dir():
            return path
    raise InputError(f"{folder} holds no calls: name a run folder, or its folder calls")


def _use(call: "StoredCall") -> str:
    return _USES.get(call.protocol, call.protocol.replace("_", " ")) or "unknown"


def _bytes(size: str) -> int:
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", size.strip(), re.IGNORECASE)):
        raise InputError(f"--trim {size!r} is not a size: write 0, 800K, 500M or 2G")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def _trim(calls: list["StoredCall"], keep: int, *, dry_run: bool) -> int:
    """Delete the oldest calls until at most `keep` bytes are left; returns the exit code."""
    left = sum(call.size for call in calls)
    deleted = freed = 0
    for call in sorted(calls, key=lambda call: call.time):
        if left <= keep:
            break
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):  # another command deleted it
                call.path.unlink()
        left, deleted, freed = left - call.size, deleted + 1, freed + call.size
    done = "would delete" if dry_run else "deleted"
    print(
        f"{done} {deleted:,} of {len(calls):,} calls, {_size(freed)}; {_size(left)} of them left",
        file=sys.stderr,
    )
    return 0


def _show(calls: Iterable["StoredCall"], folder: Path, *, as_json: bool) -> None:
    groups: dict[tuple[str, str], list[StoredCall]] = {}
    for call in calls:
        groups.setdefault((_use(call), call.model or "unknown"), []).append(call)
    now = time.time()
    rows: list[dict[str, Any]] = [
        {
            "use": use,
            "model": model,
            "calls": len(group),
            "bytes": sum(call.size for call in group),
            "oldest_days": round((now - min(call.time for call in group)) / _DAY, 1),
            "newest_days": round((now - max(call.time for call in group)) / _DAY, 1),
        }
        for (use, model), group in sorted(groups.items())
    ]
    if as_json:
        print(json.dumps({"folder": str(folder), "calls": rows}, indent=1, ensure_ascii=False))
        return
    total = sum(sum(call.size for call in group) for group in groups.values())
    print(f"{folder}: {sum(map(len, groups.values())):,} calls, {_size(total)}")
    if not rows:
        return
    width = max(len("model"), *(len(model) for _, model in groups))
    uses = max(len("use"), *(len(use) for use, _ in groups))
    print(f"{'use':<{uses}}  {'model':<{width}}  {'calls':>9}  {'size':>9}  age in days")
    for row in rows:
        print(
            f"{row['use']:<{uses}}  {row['model']:<{width}}  {row['calls']:>9,}  "
            f"{_size(row['bytes']):>9}  {row['newest_days']}–{row['oldest_days']}"
        )


def _size(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
