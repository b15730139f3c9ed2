"""An axolotl plugin that looks at recipe and data before anything is loaded or paid for.

    plugins:
      - longwriter_train.checks.ChecksPlugin

It refuses keys that axolotl would drop silently, and JSONL files with rows that cannot be trained
on or with benchmark prompts among their prompts. Such rows of a data set from the hub are left out,
and listed. What axolotl has prepared of a file or chat template is not used once that has changed,
which axolotl itself does not notice.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from axolotl.common.const import DEFAULT_DATASET_PREPARED_PATH
from axolotl.integrations.base import BasePlugin
from axolotl.utils.logging import get_logger
from filelock import FileLock
from pydantic import BaseModel, Field

from longwriter_core.errors import InputError
from longwriter_core.jsonl import write_jsonl
from longwriter_train.checks.data import inspected, is_file, require_file
from longwriter_train.checks.keys import unknown_keys, unread_keys

LOG = get_logger(__name__)


class ChecksArgs(BaseModel):
    """What the plugin adds to axolotl's settings."""

    benchmark_check: bool | None = Field(
        default=True,
        json_schema_extra={
            "description": "Refuse training prompts that hold a prompt of LongBench-Write or "
            "LongWrite-Ruler. Needs upstream's files: longwriter assets --fetch."
        },
    )


class ChecksPlugin(BasePlugin):  # type: ignore[misc]
    """Ends the command with one line and exit code 2 where recipe or data cannot be right."""

    def get_input_args(self) -> str:
        """The class with our settings."""
        return "longwriter_train.checks.ChecksArgs"

    def register(self, cfg: Mapping[str, Any]) -> None:
        """Refuse unknown keys of the recipe's file, before axolotl drops them."""
        _join_without_gpus()
        path = cfg.get("axolotl_config_path")
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else {}
        try:
            unknown = unknown_keys(recipe)
        except InputError as error:
            _refuse(f"{path}: {error}")
        if unknown:
            _refuse(f"{path}: axolotl does not know {', '.join(unknown)}")
        if unread := unread_keys(recipe):
            _refuse(f"{path}: longwriter_train does not read {', '.join(unread)}: remove it")

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:  # noqa: ARG002
        """Check the data and, of what is not the user's own file, leave wrong rows out."""
        prepared = Path(cfg.dataset_prepared_path or DEFAULT_DATASET_PREPARED_PATH)
        try:
            for entry in cfg.datasets:
                if is_file(entry):
                    if os.environ.get("RANK", "0") == "0":
                        LOG.info(f"checked {require_file(entry, cfg)} rows of {entry.path}")
                else:
                    _use_right_rows(entry, cfg, prepared / "checked")
        except InputError as error:
            _refuse(str(error))
        cfg.dataset_prepared_path = str(prepared / _digest(_contents(cfg)))
        if cfg.device == "cpu" and cfg.world_size > 1:
            cfg.device_map = {"": "cpu"}  # axolotl names the GPU of each process's number

    def post_model_load(self, cfg: Any, model: Any) -> None:
        """Let a model that is merged know where to stop, as the trainer does for one it trains."""
        if cfg.merge_lora:
            from axolotl.loaders import load_tokenizer
            from transformers.trainer_utils import align_special_tokens

            align_special_tokens(model, load_tokenizer(cfg))


def _join_without_gpus() -> None:
    """Make one training of several processes that have no GPU, as for a trial of a launch line.

    axolotl and accelerate would let each train by itself, and say nothing.
    """
    import torch
    from accelerate import PartialState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
        PartialState(cpu=True)


def _use_right_rows(entry: Any, cfg: Any, folder: Path) -> None:
    """Point a recipe's data set to a copy of its right rows, made by the first process to come."""
    settings = {**entry, "rl": cfg.rl, "benchmark_check": cfg.benchmark_check}
    copy = (
        folder / f"{_digest([json.dumps(settings, sort_keys=True, default=str).encode()])}.parquet"
    )
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(copy.with_suffix(".lock")):
        if not copy.exists():
            dataset, wrong = inspected(entry, cfg)
            left_out = [
                {"row": row, "wrong": why, **dataset[row - 1]}
                for row, why in enumerate(wrong, 1)
                if why
            ]
            if len(left_out) == len(wrong):
                first = f": row 1 {wrong[0]}" if wrong else ""
                raise InputError(f"{entry['path']} has no row to train on{first}")
            write_jsonl(copy.with_suffix(".left_out.jsonl"), left_out, default=str)
            right = dataset.select([row for row, why in enumerate(wrong) if not why])
            right.to_parquet(partial := copy.with_suffix(".partial"))
            partial.rename(copy)
            LOG.info(
                f"checked {len(wrong)} rows of {entry['path']}, left out {len(left_out)}: "
                f"{copy.with_suffix('.left_out.jsonl')}"
            )
    entry.update(
        path=str(copy), split="train", name=None, data_files=None, revision=None, ds_type=None
    )


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:12]


def _contents(cfg: Any) -> Iterator[bytes]:
    """What the recipe's local files hold, template and data."""
    named = [cfg.chat_template_jinja, *(entry["path"] for entry in cfg.datasets)]
    for name in named:
        # a template may also stand in the recipe itself, and be no path at all
        if name and "\n" not in name and (path := Path(name)).is_file():
            yield path.read_bytes()


def _refuse(message: str) -> NoReturn:
    print(f"longwriter: error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
