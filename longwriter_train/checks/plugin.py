"""The axolotl plugin that checks a recipe and its data before a model is loaded."""

import hashlib
import json
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NoReturn, Self

import yaml
from axolotl.common.const import DEFAULT_DATASET_PREPARED_PATH
from axolotl.integrations.base import BasePlugin
from axolotl.utils.logging import get_logger
from filelock import FileLock
from pydantic import BaseModel, Field, model_validator

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.jsonl import write_jsonl
from longwriter_core.overlap import NEAR, PART
from longwriter_train.checks.data import inspected, is_file, require_file
from longwriter_train.checks.recipe import reward_problems, unknown_keys, unread_keys
from longwriter_train.recipes import title_of

LOG = get_logger("axolotl.longwriter_train")  # axolotl shows INFO only for loggers below its own


_QUALITY = "longwriter_train.rewards.quality"
_DDP_TIMEOUT = 1_800  # seconds; the default of transformers


class ChecksArgs(BaseModel):
    """ChecksPlugin's keys in a recipe."""

    benchmark_check: bool | None = Field(
        default=True,
        json_schema_extra={
            "description": "Refuse training prompts that hold a prompt of LongBench-Write or "
            "LongWrite-Ruler. Needs upstream's files: longwriter assets --fetch."
        },
    )
    dpo_ld_alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        json_schema_extra={
            "description": "LD-DPO's alpha: the weight of an answer's tokens beyond the length of "
            "the pair's shorter answer. TRL has this setting (ld_alpha), axolotl does not."
        },
    )

    reward_judge: str | None = Field(
        default=None,
        json_schema_extra={
            "description": "The judge of longwriter_train.rewards.quality: a profile of "
            "`longwriter judges`. Without it, LONGWRITER_JUDGE and its siblings name the judge."
        },
    )
    reward_wait: int = Field(
        default=900,
        ge=1,
        json_schema_extra={
            "description": "Seconds that training waits for a judge that does not answer, before "
            "it saves a checkpoint and exits with 1. Less than ddp_timeout, which is 1800."
        },
    )

    working_directory: str | None = Field(
        default=None,
        json_schema_extra={
            "description": "Set by ChecksPlugin under Ray Train, whose workers start in folders of "
            "their own: the folder that the recipe's paths are relative to."
        },
    )

    @model_validator(mode="after")
    def _rewards_need_grpo(self) -> Self:
        if self.reward_judge is not None and getattr(self, "rl", None) != "grpo":
            raise ValueError("reward_judge needs rl: grpo")
        timeout = getattr(self, "ddp_timeout", None) or _DDP_TIMEOUT
        if self.reward_wait >= timeout:
            raise ValueError(
                f"reward_wait: {self.reward_wait} must be less than ddp_timeout, {timeout}: the "
                "other ranks would give up first"
            )
        return self

    @model_validator(mode="after")
    def _ld_alpha_needs_dpo(self) -> Self:
        if self.dpo_ld_alpha is not None and getattr(self, "rl", None) != "dpo":
            raise ValueError("dpo_ld_alpha needs rl: dpo")
        return self


class ChecksPlugin(BasePlugin):  # type: ignore[misc]
    """Ends the command with a one-line error and exit code 2 if recipe or data is invalid."""

    def get_input_args(self) -> str:
        """Name the class that adds `benchmark_check` to axolotl's schema."""
        return "longwriter_train.checks.ChecksArgs"

    def register(self, cfg: MutableMapping[str, Any]) -> None:
        """Log the recipe's title and this machine's hardware, and refuse unknown keys."""
        if cfg.get("use_ray"):
            _prepare_ray(cfg)
        _connect_cpu_ranks()
        path = cfg.get("axolotl_config_path")
        text = Path(path).read_text(encoding="utf-8") if path else ""
        recipe = yaml.safe_load(text) or {}
        if os.environ.get("RANK", "0") == "0":
            LOG.info(f"{path}: {title_of(text) if text.startswith('#') else 'no header'}")
            LOG.info(f"this machine: {hardware()}")
        try:
            unknown = unknown_keys(recipe)
        except InputError as error:
            _refuse(f"{path}: {error}")
        if unknown:
            _refuse(f"{path}: axolotl does not know {', '.join(unknown)}")
        if unread := unread_keys(recipe):
            _refuse(f"{path}: longwriter_train does not read {', '.join(unread)}: remove it")

        if wrong := list(reward_problems(recipe)):
            _refuse(f"{path}: {'; '.join(wrong)}")

    def get_training_args(self, cfg: Any) -> dict[str, Any] | None:
        """Return TRL's settings that axolotl does not pass on."""
        return None if cfg.dpo_ld_alpha is None else {"ld_alpha": cfg.dpo_ld_alpha}

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:  # noqa: ARG002
        """Check the data. Invalid rows are skipped in any data set that is not a JSONL file."""
        prepared = Path(cfg.dataset_prepared_path or DEFAULT_DATASET_PREPARED_PATH)
        try:
            identities = [
                _check_file(entry, cfg, prepared / "checked")
                if is_file(entry)
                else _use_valid_rows(entry, cfg, prepared / "checked")
                for entry in cfg.datasets
            ]
        except InputError as error:
            _refuse(str(error))
        identities.append(_template(cfg))
        cfg.dataset_prepared_path = str(prepared / _digest("\n".join(identities)))
        if cfg.device == "cpu" and cfg.world_size > 1:
            cfg.device_map = {"": "cpu"}  # axolotl would assign each rank a GPU

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Choose the judge of `rewards.quality`, and ask it for one verdict."""
        if cfg.rl != "grpo" or _QUALITY not in (cfg.trl.reward_funcs or []):
            return
        from longwriter_train.rewards import judging

        try:
            judge = judging.QualityJudge.resolve(cfg.reward_judge, cfg.reward_wait)
            if trainer.accelerator.is_main_process:
                judge.check()
        except InputError as error:
            _refuse(str(error))
        judging.use(judge)

    def post_model_load(self, cfg: Any, model: Any) -> None:
        """Set the end tokens of a merged model, as the trainer does for a model that it trains."""
        if cfg.merge_lora:
            from axolotl.loaders import load_tokenizer
            from transformers.trainer_utils import align_special_tokens

            align_special_tokens(model, load_tokenizer(cfg))


def hardware() -> str:
    """Return the devices that this process can use, such as `8 × NVIDIA H100 80GB HBM3, 79 GiB`."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    return f"{torch.cuda.device_count()} × {properties.name}, {memory}"


def _prepare_ray(cfg: MutableMapping[str, Any]) -> None:
    """Let the workers of Ray Train use the settings that axolotl made of the recipe.

    The command passes its settings to workers that run in folders of their own and check the
    settings once more.
    """
    if not (folder := cfg.get("working_directory")):  # this is the command
        cfg["working_directory"] = str(Path.cwd())
        return
    if not Path(folder).is_dir():
        _refuse(f"{folder} does not exist on this machine: share the folder between all machines")
    os.chdir(folder)
    # axolotl has computed the steps, and refuses both settings together.
    for steps, per_epoch in {
        "save_steps": "saves_per_epoch",
        "eval_steps": "evals_per_epoch",
    }.items():
        if cfg.get(steps) and cfg.get(per_epoch):
            cfg[per_epoch] = None


def _connect_cpu_ranks() -> None:
    """Let several processes without a GPU train one model, to try out a launch command.

    Without this, axolotl and accelerate would silently train a separate model in each process.
    """
    import torch
    from accelerate import PartialState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
        PartialState(cpu=True)


def _check_file(entry: Any, cfg: Any, folder: Path) -> str:
    """Check a JSONL file in the first process, and return its content's digest.

    A file that has not changed since it was checked is not read again.
    """
    path = Path(entry.path)
    if not path.is_file():
        require_file(entry, cfg)  # raises InputError
    record = folder / f"{_key(entry, cfg)}.json"
    if record.is_file():
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha.update(block)
    if os.environ.get("RANK", "0") == "0":
        rows = require_file(entry, cfg)
        content = {"path": entry.path, "rows": rows, "sha256": sha.hexdigest()}
        write_atomically(record, json.dumps(content).encode())
        LOG.info(f"checked {rows} rows of {entry.path}")
    return sha.hexdigest()


def _use_valid_rows(entry: Any, cfg: Any, folder: Path) -> str:
    """Point a recipe's data set to a copy of its valid rows, which the first process writes.

    Returns the copy's name.
    """
    copy = folder / f"{_key(entry, cfg)}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(copy.with_suffix(".lock")):
        if not copy.exists():
            dataset, wrong = inspected(entry, cfg)
            skipped = [
                {"row": row, "wrong": why, **dataset[row - 1]}
                for row, why in enumerate(wrong, 1)
                if why
            ]
            if len(skipped) == len(wrong):
                first = f": row 1 {wrong[0]}" if wrong else ""
                raise InputError(f"{entry['path']} has no row to train on{first}")
            write_jsonl(copy.with_suffix(".skipped.jsonl"), skipped, default=str)
            valid = dataset.select([row for row, why in enumerate(wrong) if not why])
            valid.to_parquet(partial := copy.with_suffix(".partial"))
            partial.rename(copy)
            LOG.info(
                f"checked {len(wrong)} rows of {entry['path']}, skipped {len(skipped)}: "
                f"{copy.with_suffix('.skipped.jsonl')}"
            )
    entry.update(
        path=str(copy), split="train", name=None, data_files=None, revision=None, ds_type=None
    )
    return copy.name


def _key(entry: Any, cfg: Any) -> str:
    """Return what a data set's check depends on, as a file name: its files, and the settings."""
    path = Path(str(entry["path"]))
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    stamps = [
        (str(file), stat.st_size, stat.st_mtime_ns)
        for file in files
        if file.is_file() and (stat := file.stat())
    ]
    settings = {**entry, "rl": cfg.rl, "benchmark_check": cfg.benchmark_check}
    return _digest(json.dumps([settings, stamps, NEAR, PART], sort_keys=True, default=str))


def _template(cfg: Any) -> str:
    """Return the recipe's chat template. `chat_template_jinja` is a path or the template itself."""
    name = cfg.chat_template_jinja or ""
    is_path = name and "\n" not in name and Path(name).is_file()
    return Path(name).read_text(encoding="utf-8") if is_path else name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _refuse(message: str) -> NoReturn:
    print(f"longwriter: error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
