"""From submissions to entries: each verified once, with its report beside it."""

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
from longwriter_eval import __version__
from longwriter_eval.report import write_report
from longwriter_eval.submission.archive import MAX_FILE_SIZE, read
from longwriter_eval.submission.verification import Verification, table_claims, verify

# An entry, as JSON: `reasons` is empty for a verified one, which has everything else.
Entry = dict[str, Any]

_FEW = 2  # so many are verified in this process: to start others takes seconds
_REASONS = 20  # of an invalid submission, that the page lists
_FOLDER = re.compile(r"[0-9a-f]{16}")


def find(folder: Path) -> list[Path]:
    """The submissions below `folder`, by name. Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that holds submissions")
    found = sorted(path for path in folder.rglob("*.zip") if path.is_file())
    if not found:
        raise InputError(f"{folder} holds no submissions (*.zip): make one by `longwriter submit`")
    return found


def examine(folder: Path, paths: Sequence[Path], site: Path) -> list[Entry]:
    """An entry for every submission, in the order of `paths`.

    A verified one gets a folder in `site`, with its report and its entry; as long as the submission
    and this package stay the same, that is believed. What else stands there is of submissions that
    are gone, and is removed.
    """
    parent = site / "submissions"
    found: dict[Path, Entry] = {}
    with tqdm(total=len(paths), desc="Verifying") as bar:
        for path, entry in _examined(paths, parent):
            found[path] = {"file": escape_unprintable(path.relative_to(folder).as_posix()), **entry}
            bar.update()
    entries = [found[path] for path in paths]
    _refuse_copies(entries)
    kept = {entry["sha256"][:16] for entry in entries if not entry["reasons"]}
    for old in parent.iterdir() if parent.is_dir() else ():
        if _FOLDER.fullmatch(old.name) and old.name not in kept:
            shutil.rmtree(old)
    return entries


def _examined(paths: Sequence[Path], parent: Path) -> Iterator[tuple[Path, Entry]]:
    pending = []
    for path in paths:
        if entry := _kept(path, parent):
            yield path, entry
        else:
            pending.append(path)
    if len(pending) <= _FEW:
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
            pass  # one ended its process, and no other goes on
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
                    yield path, {"reasons": ["it ended the process that verified it"]}
                    break


def _workers(number: int) -> ProcessPoolExecutor:
    # a fork would copy whatever threads the caller runs
    return ProcessPoolExecutor(
        min(number, os.cpu_count() or 1), get_context("spawn"), _ignore_interrupt
    )


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the work


def _kept(path: Path, parent: Path) -> Entry | None:
    """The entry of a submission that was verified before, by the same version of this package."""
    try:
        if path.stat().st_size > MAX_FILE_SIZE:
            return None
        sha = files.sha256(path.read_bytes())
        kept: Entry = json.loads((parent / sha[:16] / "entry.json").read_text(encoding="utf-8"))
        return kept if (kept["sha256"], kept["verified_by"]) == (sha, __version__) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _examine(path: Path, parent: Path) -> Entry:
    try:
        return _verified(path, parent)
    except InputError as error:
        return {"reasons": [printable(str(error).removeprefix(f"{path}: "), 300)]}
    except OSError:  # such as a full disk: no fault of the submission
        raise
    except Exception as error:  # one submission must not end the board
        return {"reasons": [f"it cannot be verified ({printable(repr(error), 280)})"]}


def _verified(path: Path, parent: Path) -> Entry:
    verification = verify(read(path))
    if problems := verification.problems:
        more = len(problems) - _REASONS
        return {
            "reasons": [printable(problem, 300) for problem in problems[:_REASONS]]
            + ([f"and {more} more: longwriter verify lists them"] if more > 0 else [])
        }
    entry = _entry(verification)
    folder = parent / entry["sha256"][:16]
    write_report([verification.submission.run()], folder / "report.html")
    files.write_atomically(
        folder / "entry.json", json.dumps(entry, indent=1, ensure_ascii=False).encode()
    )
    return entry


def _entry(verification: Verification) -> Entry:
    submission = verification.submission
    manifest = submission.manifest
    hashes = sorted(sample["response_sha256"] for sample in submission.samples)
    return {
        "sha256": submission.sha256,
        "verified_by": __version__,
        "reasons": [],
        "report": f"submissions/{submission.sha256[:16]}/report.html",
        "responses_sha256": files.sha256("".join(hashes)),
        **{
            name: manifest[name]
            for name in (
                "benchmark", "task_version", "judge", "model", "backend", "generation", "seeds",
                "submitter", "date",
            )
        },
        "scores": {
            row["name"]: row
            for row in table_claims(verification.rows)
            if row["kind"] in ("all", "language")
        },
    }  # fmt: skip


def _refuse_copies(entries: Sequence[Entry]) -> None:
    """The same responses are one submission, unless another judge has judged the same model.

    Under the names of several models all are refused: whose they are no file name can tell.
    """
    same: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry["reasons"]:
            same.setdefault(entry["responses_sha256"], []).append(entry)
    for copies in same.values():
        accepted: list[Entry] = []
        for entry in copies:
            others = [each for each in copies if _model(each) != _model(entry)]
            judged = [each for each in accepted if each["judge"] == entry["judge"]]
            if others:
                names = printable(", ".join(each["file"] for each in others))
                entry["reasons"] = [
                    f"its responses are those of {names}, under another model's name: a maintainer "
                    "decides whose they are"
                ]
            elif judged:
                entry["reasons"] = [f"its responses are those of {printable(judged[0]['file'])}"]
            else:
                accepted.append(entry)


def _model(entry: Entry) -> str:
    return str(entry["model"]["id"]["value"])
