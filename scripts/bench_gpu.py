"""Measure training on one GPU: full-size Llama-3.1-8B and GLM-4-9B, random weights, 32k packs.

    python scripts/bench_gpu.py [--model llama|glm] [--steps N] [--output FILE.md]

Prints a Markdown table: tokens per second, peak memory, and model FLOPs utilisation against the
matrix product rate measured in the same run, for axolotl's average and for LossPlugin's. Needs one
GPU of 140 GB or more, and `pip install ".[train]"`; downloads nothing. A micro-batch is one pack of
32,768 tokens in four sequences, with gradient checkpointing, bfloat16 weights and gradients, and
Liger's fused cross-entropy as in `recipes/*/sft_1gpu.yaml`. The optimizer's step is not measured.
"""

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench_table import table

PACK, SEQUENCES = 32_768, 4
# The published shapes: github.com/meta-llama/llama-models and huggingface.co/zai-org/glm-4-9b-hf.
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 128_256, "hidden_size": 4_096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
    },
    "glm": {
        "vocab_size": 151_552, "hidden_size": 4_096, "intermediate_size": 13_696,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
        "head_dim": 128, "attention_bias": True, "max_position_embeddings": 131_072,
        "pad_token_id": None, "eos_token_id": None,
    },
}  # fmt: skip


def matmul_rate() -> float:
    """FLOP per second of bfloat16 matrix products on this GPU, the best of ten."""
    import torch

    size = 8_192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = min(_seconds(lambda: left @ right, 10) for _ in range(10))
    return float(2 * size**3 / best)


def training_flops(model: Any, shape: dict[str, Any]) -> float:
    """FLOPs of a forward and a backward pass over a pack; without what checkpointing repeats.

    6 per weight and token, and 12 per layer, width and pair of tokens that attention sees, halved
    because it is causal. The embedding is looked up, not multiplied.
    """
    weights = sum(p.numel() for p in model.parameters())
    weights -= model.get_input_embeddings().weight.numel()
    width = shape["num_attention_heads"] * shape.get(
        "head_dim", shape["hidden_size"] // shape["num_attention_heads"]
    )
    pairs = SEQUENCES * (PACK // SEQUENCES) ** 2 / 2
    return float(6 * weights * PACK + 12 * shape["num_hidden_layers"] * width * pairs)


def build(kind: str) -> Any:
    """A model of that shape on the GPU, with Liger's fused cross-entropy."""
    import torch
    from axolotl.integrations.liger import LigerPlugin
    from axolotl.utils.dict import DictDefault
    from transformers import AutoModelForCausalLM, GlmConfig, LlamaConfig

    LigerPlugin().pre_model_load(
        DictDefault({"model_config_type": kind, "liger_fused_linear_cross_entropy": True})
    )
    config = {"llama": LlamaConfig, "glm": GlmConfig}[kind](**SHAPES[kind])
    attention = "flash_attention_2"
    with contextlib.suppress(ImportError), torch.device("cuda"):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=attention
        )
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )


def measure(kind: str, steps: int, rate: float) -> list[Sequence[str]]:
    """The rows of one model: axolotl's average, then LossPlugin's."""
    import torch

    from longwriter_train.loss.averages import divisors, share_of_total, targets

    model = build(kind).train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    ids = torch.randint(0, SHAPES[kind]["vocab_size"], (1, PACK), device="cuda")
    positions = torch.arange(PACK // SEQUENCES, device="cuda").repeat(SEQUENCES)[None]
    batch = {"input_ids": ids, "labels": ids.clone(), "position_ids": positions}

    def theirs() -> None:
        model(**batch, use_cache=False).loss.backward()
        model.zero_grad()

    def ours() -> None:
        given = {**batch, "labels": targets(batch)}
        divisor, factor = divisors("token", given, share_of_total("token", given))
        (model(**given, num_items_in_batch=divisor, use_cache=False).loss * factor).backward()
        model.zero_grad()

    flops = training_flops(model, SHAPES[kind])
    rows: list[Sequence[str]] = []
    for name, step in {"axolotl's average": theirs, "LossPlugin, token": ours}.items():
        torch.cuda.reset_peak_memory_stats()
        step()
        seconds = _seconds(step, steps)
        peak = torch.cuda.max_memory_allocated() / 2**30
        used = 100 * flops / seconds / rate
        attention = model.config._attn_implementation
        rows.append(
            [kind, name, attention, f"{PACK / seconds:,.0f}", f"{peak:.0f} GiB", f"{used:.1f}%"]
        )
    return rows


def _seconds(step: Callable[[], Any], times: int) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def main() -> int:
    """Print the table; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=SHAPES, help="only this one")
    parser.add_argument("--steps", type=int, default=5, help="packs to time, after one to warm up")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("bench_gpu.py: torch finds no GPU; this needs one of 140 GB", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    rate = matmul_rate()
    head = ["model", "loss", "attention", "tokens/s", "peak memory", "MFU"]
    rows: list[Sequence[str]] = []
    for kind in [args.model] if args.model else SHAPES:
        rows += measure(kind, args.steps, rate)
        torch.cuda.empty_cache()
    text = f"{torch.cuda.get_device_name()}, matrix products {rate / 1e12:,.0f} TFLOP/s\n\n"
    text += table(head, rows, numbers_from=3)
    print(text)
    if args.output:
        args.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
