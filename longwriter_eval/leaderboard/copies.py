"""Copies among submissions: the responses of an earlier one, edited or not.

Responses are compared as MinHash signatures over runs of three words (Broder, 1997), prompt by
prompt. Two models that answer the same prompt independently share few such runs; an edited copy
keeps most of them.
"""

import re
import subprocess
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasketch import MinHash

from longwriter_core.text.printable import printable
from longwriter_eval.submission import judges

# A submission is a copy if at least this share of its responses is as similar as MIN_SIMILARITY to
# another's. One edited word in ten leaves a similarity of about 0.57.
MIN_SHARE = 0.25
MIN_SIMILARITY = 0.4

_PERMUTATIONS = 64
_SHINGLE = 3  # words, or characters of Chinese
_MIN_WORDS = 30  # shorter responses, such as refusals, are similar by chance
_MAX_WORDS = 2000  # of each response; enough to recognise it
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+")


def signature(text: str) -> str:
    """The MinHash signature of a response in hexadecimal; "" for a short one."""
    normalised = unicodedata.normalize("NFKC", text[: 20 * _MAX_WORDS]).casefold()
    words = _WORD.findall(normalised)[:_MAX_WORDS]
    if len(words) < _MIN_WORDS:
        return ""
    shingles = {" ".join(words[n : n + _SHINGLE]) for n in range(len(words) - _SHINGLE + 1)}
    sketch = MinHash(num_perm=_PERMUTATIONS, hashfunc=zlib.crc32)
    sketch.update_batch([shingle.encode("utf-8", "backslashreplace") for shingle in shingles])
    return bytes(sketch.hashvalues.astype("<u4").tobytes()).hex()


def similar_share(one: Mapping[str, str], other: Mapping[str, str]) -> float:
    """Share (0-1) of the prompts with signatures in both whose responses are similar."""
    shared = [id for id, text in one.items() if text and other.get(id)]
    if not shared:
        return 0.0
    a, b = (
        np.frombuffer(bytes.fromhex("".join(of[id] for id in shared)), "<u4").reshape(
            len(shared), _PERMUTATIONS
        )
        for of in (one, other)
    )
    return float(((a == b).mean(axis=1) >= MIN_SIMILARITY).mean())


def merge_order(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """`paths` in the order in which git's main line added them; others last, by name.

    Dates in a submission or a commit can be chosen at will, the order of merges cannot.
    """
    position = {path: number for number, path in enumerate(_added(folder))}
    return sorted(paths, key=lambda path: (position.get(path.resolve(), len(position)), path))


def _added(folder: Path) -> list[Path]:
    """The files below `folder` that git has added, oldest first; empty outside a repository."""
    git = ["git", "-C", str(folder)]
    log = "log --first-parent -m --reverse --diff-filter=AR --name-only --format= -z -- ."
    try:
        top, names = (
            subprocess.run([*git, *command.split()], capture_output=True, check=True).stdout
            for command in ("rev-parse --show-toplevel", log)
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    root = Path(top.decode("utf-8", "surrogateescape").rstrip("\n"))
    return list(
        dict.fromkeys(
            (root / name.decode("utf-8", "surrogateescape").strip("\n")).resolve()
            for name in names.split(b"\0")
            if name.strip()
        )
    )


def refuse_copies(entries: Iterable[dict[str, Any]]) -> None:
    """Add a reason to every entry that copies the responses of an entry before it.

    A run by the same submitter of the same model is not a copy if the judge, the revision or the
    weight type differs. It gets a link to the earlier entry, `same_responses_as`.
    """
    accepted: list[dict[str, Any]] = []
    for entry in entries:
        if entry["reasons"]:
            continue
        for earlier in accepted:
            if (
                entry["benchmark"] != earlier["benchmark"]
                or similar_share(entry["signatures"], earlier["signatures"]) < MIN_SHARE
            ):
                continue
            if _is_own_variant(entry, earlier):
                entry["same_responses_as"] = earlier["file"]
                continue
            entry["reasons"] = [
                f"its responses are those of {printable(earlier['file'])}, which was submitted "
                "earlier, or edited from them"
            ]
            break
        else:
            accepted.append(entry)


def _is_own_variant(entry: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    def identity(of: Mapping[str, Any]) -> tuple[str, str]:
        model, submitter = of["model"]["id"]["value"], of["submitter"]
        return _normalised(model), _normalised(submitter or "")

    def variant(of: Mapping[str, Any]) -> list[Any]:
        return [judges.identity(of["judge"]), of["model"].get("revision"), of["model"].get("dtype")]

    return identity(entry) == identity(earlier) and variant(entry) != variant(earlier)


def _normalised(name: object) -> str:
    return unicodedata.normalize("NFKC", str(name)).casefold().strip()
