"""Upstream's benchmark files: pinned, checked by SHA-256, cached; never part of this package."""

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
_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Asset:
    """One file of the upstream repository at the pinned commit."""

    name: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """Where the pinned file is downloaded from."""
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
    """Where an asset is looked for: in LONGWRITER_ASSETS, else in the cache."""
    if folder := os.environ.get("LONGWRITER_ASSETS"):
        return Path(folder).expanduser() / name
    return cache_dir() / "assets" / COMMIT[:12] / name


def read(name: str) -> str:
    """The text of an asset, downloaded on first use.

    Raises InputError where it is missing and cannot be had, or does not have the pinned SHA-256.
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
    """Download an asset to its place and return that. Nothing unchecked is ever written there.

    Raises InputError without a network, or where the download does not have the pinned SHA-256.
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
            "assets --fetch` once where there is a network, or set LONGWRITER_ASSETS to a folder "
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
    """Whether an asset is "ok", "missing", or has a "wrong hash"."""
    path = location(name)
    if not path.is_file():
        return "missing"
    return "ok" if sha256(path.read_bytes()) == ASSETS[name].sha256 else "wrong hash"


def read_prompts(benchmark: str) -> list[dict[str, Any]]:
    """The rows of a benchmark, each with `id`, `prompt`, `type`, `length` and `language`.

    `benchmark` is longbench_write, longwrite_ruler or longwrite_demo; `length` is the required
    length in words, `language` "en" or "zh" (for LongBench-Write by upstream's own English file).
    """
    if benchmark == "longwrite_demo":
        text = (files("longwriter_core") / "demo_prompts.jsonl").read_text(encoding="utf-8")
    else:
        text = read(f"{benchmark}.jsonl")
    rows = [json.loads(line) for line in text.splitlines()]
    if benchmark == "longbench_write":
        english = {
            json.loads(line)["prompt"] for line in read("longbench_write_en.jsonl").splitlines()
        }
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
    if benchmark == "longwrite_demo":
        return sha256((files("longwriter_core") / "demo_prompts.jsonl").read_bytes())
    return ASSETS[f"{benchmark}.jsonl"].sha256


def _check(asset: Asset, data: bytes, where: str, advice: str) -> None:
    found = sha256(data)
    if found != asset.sha256:
        raise InputError(
            f"{where} is not upstream's {asset.name} (SHA-256 {found[:12]}…, expected "
            f"{asset.sha256[:12]}…, {len(data)} bytes): {advice}"
        )
