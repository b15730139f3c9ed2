"""Leaderboard entries: each submission is verified once and gets a report."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from longwriter_core import files
from longwriter_core.errors import InputError
from longwriter_core.text.printable import escape_unprintable, printable
from longwriter_eval.leaderboard.copies import merge_order, refuse_copies, signature
from longwriter_eval.leaderboard.exports import stated_data
from longwriter_eval.leaderboard.ranks import KINDS, prompt_scores
from longwriter_eval.report import write_report
from longwriter_eval.submission import rejudged
from longwriter_eval.submission.limits import limited
from longwriter_eval.submission.verification import Verification, table_claims, verify_file
from longwriter_eval.submission.zip_file import MAX_FILE_SIZE
from longwriter_eval.version import __version__

# An entry as JSON. A verified entry has no `reasons`; a rejected one has nothing else but its file.
Entry = dict[str, Any]

_MAX_IN_PROCESS = (
    2  # up to this number are verified in this process, since starting workers takes seconds
)
_FORMAT = 6  # of a stored entry: others are made again
_MAX_REASONS = 20  # per rejected submission on the page
_FOLDER = re.compile(r"[0-9a-f]{16}")


def find(folder: Path) -> list[Path]:
    """The submissions below `folder`, by name. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder with submissions")
    paths = sorted(path for path in folder.rglob("*.zip") if path.is_file())
    if not paths:
        raise InputError(
            f"{folder} contains no submissions (*.zip): make one with `longwriter submit`"
        )
    return paths


def examine(folder: Path, paths: Sequence[Path], site: Path) -> list[Entry]:
    """An entry for every submission, in the order of `paths`.

    A verified submission gets a folder in `site` with its report and entry, which are reused as
    long as neither the submission nor this package changes. Folders of submissions that no longer
    exist are deleted.
    """
    parent = site / "submissions"
    by_path: dict[Path, Entry] = {}
    with tqdm(total=len(paths), desc="Verifying") as bar:
        for path, entry in _examined(paths, parent):
            by_path[path] = {
                "file": escape_unprintable(path.relative_to(folder).as_posix()),
                **entry,
            }
            bar.update()
    entries = [by_path[path] for path in paths]
    for path, entry in zip(paths, entries, strict=True):
        if not entry["reasons"]:
            entry["rejudged"] = _rejudged(path, entry["sha256"])
    refuse_copies(by_path[path] for path in merge_order(folder, paths))
    kept = {entry["sha256"][:16] for entry in entries if not entry["reasons"]}
    for old in parent.iterdir() if parent.is_dir() else ():
        if _FOLDER.fullmatch(old.name) and old.name not in kept:
            shutil.rmtree(old)
    return entries


def _rejudged(path: Path, sha256: str) -> dict[str, Any] | None:
    """The newest outcome of judging a submission again, and whether no outcome contradicts it."""
    if not (record := rejudged.load(path, sha256)):
        return None
    outcome = record.newest.model_dump(mode="json")
    return {**outcome, "consistent": record.is_consistent, "outcomes": len(record.outcomes)}


def _examined(paths: Sequence[Path], parent: Path) -> Iterator[tuple[Path, Entry]]:
    pending = []
    for path in paths:
        if entry := _kept(path, parent):
            yield path, entry
        else:
            pending.append(path)
    if len(pending) <= _MAX_IN_PROCESS:
        for path in pending:
            yield path, _examine(path, parent)
        return
    left = dict.fromkeys(pending)
    with _workers(len(pending)) as pool:
        try:
            jobs = {pool.submit(_examine, path, parent): path for path in pending}
            for job in as_completed(jobs):
                entry = job.result()
                del left[jobs[job]]
                yield jobs[job], entry
        except BrokenProcessPool:
            pass  # a submission killed its worker, which breaks the whole pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    while left:
        with _workers(1) as pool:
            for path in list(left):
                del left[path]
                try:
                    yield path, pool.submit(_examine, path, parent).result()
                except BrokenProcessPool:
                    yield path, {"reasons": ["it crashed the process that verified it"]}
                    break


def _workers(number: int) -> ProcessPoolExecutor:
    # fork is unsafe if the caller runs threads
    return ProcessPoolExecutor(
        min(number, os.cpu_count() or 1), get_context("spawn"), _ignore_interrupt
    )


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C


def _kept(path: Path, parent: Path) -> Entry | None:
    """The stored entry of a submission, if this version of the package verified it before."""
    try:
        if path.stat().st_size > MAX_FILE_SIZE:
            return None
        sha = files.sha256(path.read_bytes())
        kept: Entry = json.loads((parent / sha[:16] / "entry.json").read_text(encoding="utf-8"))
        current = (sha, __version__, _FORMAT)
        is_current = (kept["sha256"], kept["verified_by"], kept["format"]) == current
        return kept if is_current and kept["signatures"] and kept["prompt_scores"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _examine(path: Path, parent: Path) -> Entry:
    try:
        return _verified(path, parent)
    except InputError as error:
        return {"reasons": [printable(str(error).removeprefix(f"{path}: "), 300)]}
    except OSError:  # for example a full disk, which is not the fault of the submission
        raise
    except Exception as error:  # one submission must not break the leaderboard
        return {"reasons": [f"it cannot be verified ({printable(repr(error), 280)})"]}


def _verified(path: Path, parent: Path) -> Entry:
    verification = verify_file(path)
    if problems := verification.problems:
        more = len(problems) - _MAX_REASONS
        return {
            "reasons": [printable(problem, 300) for problem in problems[:_MAX_REASONS]]
            + ([f"and {more} more, listed by longwriter verify"] if more > 0 else [])
        }
    entry = _entry(verification)
    folder = parent / entry["sha256"][:16]
    with limited(path):
        write_report(
            [verification.submission.run()],
            folder / "report.html",
            scores=[(verification.scores, verification.rows)],
        )
    files.write_atomically(
        folder / "entry.json", json.dumps(entry, indent=1, ensure_ascii=False).encode()
    )
    return entry


def _entry(verification: Verification) -> Entry:
    submission = verification.submission
    manifest = submission.manifest
    return {
        "sha256": submission.sha256,
        "verified_by": __version__,
        "format": _FORMAT,
        "reasons": [],
        "report": f"submissions/{submission.sha256[:16]}/report.html",
        "signatures": {score.sample.id: signature(score.text) for score in verification.scores},
        **{
            name: manifest[name]
            for name in (
                "example", "benchmark", "task_version", "judge", "model", "backend", "generation",
                "seeds", "submitter", "date",
            )
        },
        "stated": stated_data(manifest, sum(score.words for score in verification.scores)),
        "scores": {
            row["name"]: row
            for row in table_claims(verification.rows, KINDS)
        },
        "prompt_scores": prompt_scores(verification.scores),
    }  # fmt: skip
