"""Measure training on one GPU: full-size Llama-3.1-8B and GLM-4-9B, random weights, 32k packs.

    python scripts/bench_gpu.py [--model llama|glm] [--steps N] [--output FILE.md]
    python scripts/bench_gpu.py --rehearse     # the same code with tiny shapes, on a CPU

Prints a Markdown table, each row as soon as it is measured: tokens per second, peak memory, and
model FLOPs utilisation (MFU) relative to the matrix product rate measured in the same run, for
axolotl's average and for LossPlugin's. A model that fails becomes a row with its error, and the
exit code is 1.

Needs one GPU of 140 GB or more, and torch, transformers, triton, and the wheels of liger-kernel and
this package (`pip install --no-deps`). It needs neither axolotl nor a network. A micro-batch is one
pack of 32,768 tokens in four sequences, with gradient checkpointing, bfloat16 weights and
gradients, and Liger's fused cross-entropy as in `recipes/*/sft_1gpu.yaml`. The optimizer's step is
not included. Where flash attention does not work, sdpa is measured instead.
"""

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

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
TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
HEAD = ("model", "loss", "attention", "tokens/s", "peak memory", "MFU")


@dataclass(frozen=True)
class Setting:
    """Where and how large the measurement is."""

    device: str = "cuda"
    pack: int = 32_768  # tokens
    sequences: int = 4  # in a pack
    matrix: int = 8_192  # width of the matrix product
    steps: int = 5

    @property
    def dtype(self) -> Any:
        """The weights' type: bfloat16 on a GPU."""
        import torch

        return torch.bfloat16 if self.device == "cuda" else torch.float32


def matmul_rate(setting: Setting) -> float:
    """The FLOP per second of matrix products on this device, the best of ten."""
    import torch

    size = setting.matrix
    left, right = (
        torch.randn(size, size, device=setting.device, dtype=setting.dtype) for _ in range(2)
    )
    best = min(_seconds(lambda: left @ right, 10, setting) for _ in range(10))
    return float(2 * size**3 / best)


def training_flops(model: Any, setting: Setting) -> float:
    """FLOPs of a forward and a backward pass over a pack, without the recomputation.

    6 per weight and token, and 12 per layer, width and attended pair of tokens, halved because
    attention is causal. The embedding does not count, because it is a lookup.
    """
    config = model.config
    weights = sum(p.numel() for p in model.parameters())
    weights -= model.get_input_embeddings().weight.numel()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head_dim
    pairs = setting.sequences * (setting.pack // setting.sequences) ** 2 / 2
    return float(6 * weights * setting.pack + 12 * config.num_hidden_layers * width * pairs)


def build(kind: str, attention: str, setting: Setting) -> Any:
    """A model of the given kind with random weights and Liger's fused cross-entropy."""
    import torch
    from liger_kernel.transformers.model import glm4, llama
    from transformers import AutoModelForCausalLM, GlmConfig, LlamaConfig

    config = {"llama": LlamaConfig, "glm": GlmConfig}[kind](**SHAPES[kind])
    with torch.device(setting.device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=setting.dtype, attn_implementation=attention
        )
    # Liger has no forward pass for GLM-4-9B (`glm`). The one of the later GLM-4 (`glm4`) computes
    # the same, because it only calls the base model and the head.
    model.forward = MethodType({"llama": llama, "glm": glm4}[kind].lce_forward, model)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    return model


def steps_of(model: Any, setting: Setting) -> dict[str, Callable[[], None]]:
    """A training step without the optimizer, for axolotl's average and for LossPlugin's."""
    import torch

    from longwriter_train.loss.averages import divisors, share_of_total, targets

    device = setting.device
    ids = torch.randint(0, model.config.vocab_size, (1, setting.pack), device=device)
    length = setting.pack // setting.sequences
    positions = torch.arange(length, device=device).repeat(setting.sequences)[None]
    batch = {"input_ids": ids, "labels": ids.clone(), "position_ids": positions}

    def axolotl() -> None:
        model(**batch, use_cache=False).loss.backward()
        model.zero_grad()

    def plugin() -> None:
        masked = {**batch, "labels": targets(batch)}
        divisor, factor = divisors("token", masked, share_of_total("token", masked))
        (model(**masked, num_items_in_batch=divisor, use_cache=False).loss * factor).backward()
        model.zero_grad()

    return {"axolotl's average": axolotl, "LossPlugin, token": plugin}


def with_working_attention(kind: str, setting: Setting) -> Any:
    """A model that has run its first step: with flash attention if that works, else with sdpa.

    The test includes the first step, because transformers loads some kernels only then.
    """
    try:
        return _tested(kind, "flash_attention_2", setting)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        print(f"{kind}: flash attention failed ({reason}), sdpa instead", file=sys.stderr)
    _free(setting)  # outside the handler, because the exception keeps a reference to the model
    return _tested(kind, "sdpa", setting)


def _tested(kind: str, attention: str, setting: Setting) -> Any:
    model = build(kind, attention, setting)
    next(iter(steps_of(model, setting).values()))()
    return model


def measure(kind: str, rate: float, setting: Setting) -> Iterator[Sequence[str]]:
    """The rows of one model."""
    import torch

    is_gpu = setting.device == "cuda"
    model = with_working_attention(kind, setting)
    flops = training_flops(model, setting)
    for name, step in steps_of(model, setting).items():
        if is_gpu:
            torch.cuda.reset_peak_memory_stats()
        step()
        seconds = _seconds(step, setting.steps, setting)
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if is_gpu else "–"
        speed, used = f"{setting.pack / seconds:,.0f}", f"{100 * flops / seconds / rate:.1f}%"
        yield kind, name, model.config._attn_implementation, speed, peak, used


def _seconds(step: Callable[[], Any], times: int, setting: Setting) -> float:
    import torch

    def wait() -> None:
        if setting.device == "cuda":
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    for _ in range(times):
        step()
    wait()
    return (time.perf_counter() - start) / times


def _free(setting: Setting) -> None:
    import torch

    gc.collect()
    if setting.device == "cuda":
        torch.cuda.empty_cache()


def main() -> int:
    """Print the table; 1 if a model failed, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=SHAPES, help="only this one")
    parser.add_argument("--steps", type=int, default=5, help="packs to time, after one to warm up")
    parser.add_argument("--output", type=Path, help="write the table to this file as well")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on a CPU")
    args = parser.parse_args()
    setting = Setting(steps=args.steps)
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # runs Liger's kernels on a CPU
        setting = Setting("cpu", pack=64, matrix=64, steps=args.steps)
        for shape in SHAPES.values():
            shape.update(TINY)
    import torch

    if not args.rehearse and not torch.cuda.is_available():
        print("bench_gpu.py: no GPU that torch can use; it needs one of 140 GB", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    failed = False

    def say(line: str) -> None:
        print(line, flush=True)
        if args.output:
            with args.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    if args.output:
        args.output.write_text("", encoding="utf-8")
    rate = matmul_rate(setting)
    name = "CPU, tiny shapes" if args.rehearse else torch.cuda.get_device_name()
    say(f"{name}, torch {torch.__version__}, matrix products {rate / 1e12:,.3g} TFLOP/s\n")
    say(f"| {' | '.join(HEAD)} |\n| {' | '.join(['---'] * 3 + ['--:'] * 3)} |")
    for kind in [args.model] if args.model else SHAPES:
        try:
            for row in measure(kind, rate, setting):
                say(f"| {' | '.join(row)} |")
        except Exception as error:
            failed = True
            reason = " ".join(str(error).split())[:200].replace("|", "/")
            say(f"| {kind} | failed: {type(error).__name__}: {reason} | | | | |")
        _free(setting)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
