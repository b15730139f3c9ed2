"""The benchmarks' prompts: upstream's files, and this project's demo prompts.

Upstream's files are pinned to a commit, checked by SHA-256 and cached. This package never includes
them.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir, sha256, write_atomically
from longwriter_core.text.language import main_language

REPOSITORY = "THUDM/LongWriter"
COMMIT = "3fcfdff43deceb49f7936c6bf25ad88d61df0bfa"
DEMO = "longwrite_demo"  # the benchmark of this project's own prompts
_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Asset:
    """One file of the upstream repository at the pinned commit."""

    name: str
    path: str
    sha256: str

    @property
    def is_for_evaluation(self) -> bool:
        """Whether the tasks need the file. The other files are AgentWrite's official prompts."""
        return self.path.startswith("evaluation/")

    @property
    def url(self) -> str:
        """The download URL of the pinned file."""
        return f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{self.path}"


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            "longbench_write.jsonl",
            "evaluation/longbench_write.jsonl",
            "1f6e99497cc24d65894d65e014062f398ba946ebdd254b7f8b339e48d3ab5779",
        ),
        Asset(
            "longbench_write_en.jsonl",
            "evaluation/longbench_write_en.jsonl",
            "87800927761f340e48899e4df5d47fb7211ad4936a63420dbfa979660414259f",
        ),
        Asset(
            "longwrite_ruler.jsonl",
            "evaluation/longwrite_ruler.jsonl",
            "a1d4ebf0df0fa1600567691d11c9a52de3037c4a372970ed2e8f52f2889e0a62",
        ),
        Asset(
            "judge.txt",
            "evaluation/judge.txt",
            "2c423ce88a0eb6a61482f427997a3c03c4bc11fe861102895dcac45926ae1d57",
        ),
        Asset(
            "plan.txt",
            "agentwrite/prompts/plan.txt",
            "cf65adef21e8f2565bf4f633b169a90681fbdee0efd026e577278f83784f6d52",
        ),
        Asset(
            "write.txt",
            "agentwrite/prompts/write.txt",
            "468c47ca954a4dcd4295642ee036383f3fb741560b2fa707a6039f10be0c3c9a",
        ),
    )
}


def location(name: str) -> Path:
    """The path of an asset: in the folder LONGWRITER_ASSETS if set, else in the cache."""
    if folder := os.environ.get("LONGWRITER_ASSETS"):
        return Path(folder).expanduser() / name
    return cache_dir() / "assets" / COMMIT[:12] / name


def read(name: str) -> str:
    """The text of an asset, downloaded on first use.

    Raises InputError if it is missing and cannot be downloaded, or if its SHA-256 is wrong.
    """
    path = location(name)
    if not path.is_file():
        if os.environ.get("LONGWRITER_ASSETS"):
            raise InputError(
                f"{path} does not exist: LONGWRITER_ASSETS must name a folder that holds {name}; "
                "unset it to download the file"
            )
        fetch(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    _check(ASSETS[name], data, str(path), "restore the file or run `longwriter assets --fetch`")
    return data.decode()


def fetch(name: str) -> Path:
    """Download an asset, check its SHA-256, write it to its path and return the path.

    Raises InputError if there is no network, or if the SHA-256 of the download is wrong.
    """
    asset, path = ASSETS[name], location(name)
    try:
        with urllib.request.urlopen(asset.url, timeout=_TIMEOUT) as response:
            data: bytes = response.read()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise InputError(
            f"cannot download {asset.url} ({getattr(error, 'reason', error)}): run `longwriter "
            "assets --fetch` once with a network, or set LONGWRITER_ASSETS to a folder "
            f"that holds {name}"
        ) from error
    _check(asset, data, asset.url, "a proxy may have altered it")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}): free or repair the folder, or set "
            f"LONGWRITER_CACHE to another one, or LONGWRITER_ASSETS to one that holds {name}"
        ) from error
    return path


def state(name: str) -> str:
    """The state of an asset: "ok", "missing" or "wrong hash"."""
    path = location(name)
    if not path.is_file():
        return "missing"
    return "ok" if sha256(path.read_bytes()) == ASSETS[name].sha256 else "wrong hash"


def read_prompts(benchmark: str) -> list[dict[str, Any]]:
    """The rows of a benchmark, each with `id`, `prompt`, `type`, `length` and `language`.

    `benchmark` is longbench_write, longwrite_ruler or longwrite_demo. `length` is the required
    length in words. `language` is "en" or "zh"; for LongBench-Write, "en" means that the prompt is
    in upstream's English file.
    """
    rows = _rows(_demo_file().decode() if benchmark == DEMO else read(f"{benchmark}.jsonl"))
    if benchmark == "longbench_write":
        english = {row["prompt"] for row in _rows(read("longbench_write_en.jsonl"))}
    else:
        english = {row["prompt"] for row in rows if main_language(row["prompt"]) == "en"}
    return [
        {
            "id": f"{benchmark}/{number:03d}",
            **row,
            "language": "en" if row["prompt"] in english else "zh",
        }
        for number, row in enumerate(rows)
    ]


def data_sha256(benchmark: str) -> str:
    """SHA-256 of the benchmark's file."""
    if benchmark == DEMO:
        return sha256(_demo_file())
    return ASSETS[f"{benchmark}.jsonl"].sha256


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _demo_file() -> bytes:
    return (files("longwriter_core") / "demo_prompts.jsonl").read_bytes()


def _check(asset: Asset, data: bytes, where: str, advice: str) -> None:
    actual = sha256(data)
    if actual != asset.sha256:
        raise InputError(
            f"{where} is not upstream's {asset.name} (SHA-256 {actual[:12]}…, expected "
            f"{asset.sha256[:12]}…, {len(data)} bytes): {advice}"
        )
