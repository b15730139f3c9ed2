"""scripts/pipeline.sh runs from data to score on a CPU, with the mock server and a tiny model."""

import re
import subprocess
from pathlib import Path

import pytest
from support.commands import command, environment

from longwriter_core.mock_server.server import JUDGE, WRITER, MockServer

pytestmark = [pytest.mark.axolotl, pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "pipeline.sh"
INSTRUCTIONS = ROOT / "tests" / "support" / "pipeline_instructions.jsonl"
STEPS = ["select", "run", "sft", "train", "evaluate", "dpo", "train", "evaluate", "report"]


def test_the_pipeline_ends_in_a_report_of_both_models(tmp_path: Path) -> None:
    subprocess.run(command("longwriter", "recipes", "tiny"), cwd=tmp_path, check=True)
    profile = f'[profiles.mock]\nmodel = "{JUDGE}"\nmax_tokens = 4096\n'
    (tmp_path / "profiles.toml").write_text(profile)
    with MockServer() as server:
        url = server.base_url
        changes = {
            "WRITER": WRITER, "BASE_URL": url, "POLICY": WRITER, "POLICY_URL": url,
            "JUDGE": "mock", "JUDGE_URL": url, "OPENAI_API_KEY": "none",
            "LONGWRITER_PROFILES": str(tmp_path / "profiles.toml"),
            "SFT_RECIPE": "tiny/llama_sft", "DPO_RECIPE": "tiny/llama_dpo",
            "SOURCE": str(INSTRUCTIONS), "QUOTAS": "--quota en=6", "OUT": "out",
            "RUN_OPTIONS": "--length 120", "SFT_OPTIONS": "--min-words 20",
            "DPO_OPTIONS": "--samples 2 --min-margin 0 --length 100 --max-tokens 200",
            "TASKS": "longwrite_demo", "EVAL_MODEL_ARGS": "dtype=float32",
            "EVAL_OPTIONS": "--device cpu --limit 2 --gen_kwargs max_gen_toks=16",
            "AXOLOTL_DO_NOT_TRACK": "1", "TRL_EXPERIMENTAL_SILENCE": "1",
            "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", str(SCRIPT)],
            cwd=tmp_path,
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.findall(r"^=== (\w+)", done.stdout, re.MULTILINE) == STEPS
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for model in ("runs/tiny-llama-sft", "runs/tiny-llama-dpo"):
        assert (tmp_path / model / "model.safetensors").is_file()
        assert Path(model).name in page
