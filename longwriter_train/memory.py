"""Estimate the GPU memory that a recipe needs, for `longwriter recipes fit`.

    shape = shape_of(recipe)
    estimate(recipe, shape, gpus=8).total     # bytes per GPU

Memory peaks in the backward pass of a step's last micro-batch. The estimate counts what is held
then: weights, gradients and optimizer states, a checkpoint per layer, the activations of the layer
that is being recomputed, and what the logits need beyond that. NCCL buffers, the CUDA context and
fragmentation are not counted, so `RESERVE` is kept free for them. tests/train/test_memory.py
compares the estimates with the measured peak of tiny models.

This module needs neither torch nor a GPU.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError

GIB = 2**30
RESERVE = 0.08  # share of a GPU's memory for CUDA context, NCCL buffers, fragmentation
DPO_CHUNK = 2_048  # tokens, as in longwriter_train.dpo, which needs torch
ZERO3_LIVE = 1_000_000_000  # gathered parameters: the default of stage3_max_live_parameters
# Bytes of optimizer state per trained parameter with an 8-bit optimizer: two quantized moments.
# With other optimizers, a moment has the type of its weight.
EIGHT_BIT = 2


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    `gate` is the width of the MLP. `attention` and `key_value` are the widths of all query heads
    and of all key (or value) heads together.
    """

    layers: int
    width: int
    gate: int
    attention: int
    key_value: int
    vocabulary: int
    attention_bias: bool = False
    tied: bool = False
    head_norm: int = 0  # width of the norms of queries and keys, as in Qwen3

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """The inputs and outputs of each matrix in a layer. Gate and up are separate matrices."""
        return (
            (self.width, self.attention),
            (self.width, self.key_value),
            (self.width, self.key_value),
            (self.attention, self.width),
            (self.width, self.gate),
            (self.width, self.gate),
            (self.gate, self.width),
        )

    @property
    def embedding(self) -> int:
        """The number of parameters of the embedding. An untied head has as many again."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        biases = (self.attention + 2 * self.key_value) * self.attention_bias
        layer = sum(inputs * outputs for inputs, outputs in self.linear) + biases + 2 * self.width
        layer += 2 * self.head_norm
        return self.layers * layer + (1 if self.tied else 2) * self.embedding + self.width


LLAMA_8B = Shape(32, 4_096, 14_336, 4_096, 1_024, 128_256)
GLM_9B = Shape(40, 4_096, 13_696, 4_096, 256, 151_552, attention_bias=True)
QWEN_8B = Shape(36, 4_096, 12_288, 4_096, 1_024, 151_936, head_norm=128)
# The base models of the recipes: models on the hub, and checkpoints that other recipes write.
KNOWN = {
    "meta-llama/Llama-3.1-8B": LLAMA_8B,
    "zai-org/glm-4-9b-hf": GLM_9B,
    "Qwen/Qwen3-8B": QWEN_8B,
    "runs/llama3.1-8b-": LLAMA_8B,
    "runs/glm4-9b-": GLM_9B,
    "runs/qwen3-8b-": QWEN_8B,
}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes per GPU at the peak of a training step.

    `cpu` is the bytes that offloading takes on the whole machine. `vllm` is the share of a GPU's
    memory that vLLM takes for GRPO while it generates, beside weights, gradients and optimizer. In
    the training step it sleeps and takes none.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    cpu: float = 0.0
    vllm: float = 0.0

    @property
    def total(self) -> float:
        """All bytes per GPU."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits

    def fits(self, memory: float) -> bool:
        """Return whether it fits on a GPU with `memory` bytes, with `RESERVE` kept free."""
        return max(self.total, self.generation(memory)) <= memory * (1 - RESERVE)

    def generation(self, memory: float) -> float:
        """Return the bytes taken while vLLM generates on a GPU with `memory` bytes."""
        if not self.vllm:
            return 0.0
        return self.weights + self.gradients + self.optimizer + self.vllm * memory


def shape_of(recipe: Mapping[str, Any]) -> Shape:
    """Return the sizes of a recipe's base model, from `KNOWN` or from its config.json.

    Raises InputError for a model that is neither in `KNOWN` nor a local folder.
    """
    base = str(recipe.get("base_model") or "")
    config = Path(base) / "config.json"
    if config.is_file():
        return from_config(json.loads(config.read_text(encoding="utf-8")))
    for name, shape in KNOWN.items():
        if base.startswith(name):
            return shape
    raise InputError(
        f"the sizes of base_model {base or '(none)'} are unknown: name a folder that holds its "
        f"config.json, or one of {', '.join(KNOWN)}"
    )


def from_config(config: Mapping[str, Any]) -> Shape:
    """Return the sizes in the config.json of a Llama, GLM or Qwen3.

    Raises InputError if one is missing.
    """
    try:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return Shape(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            gate=config["intermediate_size"],
            attention=heads * head,
            key_value=(config.get("num_key_value_heads") or heads) * head,
            vocabulary=config["vocab_size"],
            attention_bias=bool(config.get("attention_bias")),
            tied=bool(config.get("tie_word_embeddings")),
            head_norm=head if str(config.get("model_type")).startswith("qwen3") else 0,
        )
    except KeyError as error:
        raise InputError(f"the model's config.json has no {error.args[0]}") from error


def estimate(recipe: Mapping[str, Any], shape: Shape, gpus: int) -> MemoryEstimate:
    """Return what each of `gpus` GPUs holds at the peak of a training step, in bytes.

    Raises InputError for settings whose memory use is not modelled.
    """
    zero = _deepspeed(recipe)
    shards = gpus if zero else 1
    is_lora = recipe.get("adapter") == "lora"
    if recipe.get("adapter") not in (None, "lora"):
        raise InputError(f"adapter: {recipe['adapter']} is not modelled: lora, or none")
    precision = 2 if recipe.get("bf16") or recipe.get("fp16") else 4
    is_dpo = recipe.get("rl") == "dpo"

    weights: float = precision * shape.parameters / shards
    if is_dpo and not is_lora:
        weights *= 2  # the reference model
    # Groups of trained parameters: their number, and the bytes per weight.
    trained = [(shape.parameters, precision)]
    if is_lora:
        adapter, whole = _lora_parameters(recipe, shape)
        trained = [(adapter, 4), (whole, precision)]
        weights += sum(count * size for count, size in trained) / shards
    # DeepSpeed's states include a float32 copy of the weights. Recipes sum gradients in float32.
    gradients: float = sum(count * (4 if zero else size) for count, size in trained) / shards
    eight_bit = "8bit" in str(recipe.get("optimizer"))
    optimizer: float = sum(
        count * (12 if zero else EIGHT_BIT if eight_bit else 2 * size) for count, size in trained
    )
    optimizer /= shards
    cpu = 0.0
    if zero.get("offload_optimizer"):
        cpu += gpus * (gradients + optimizer)
        gradients = optimizer = 0.0
    if zero.get("offload_param"):
        cpu += gpus * weights
        weights = 0.0
    if zero:
        weights += precision * min(shape.parameters, ZERO3_LIVE)  # gathered

    rows = _number(recipe, "micro_batch_size", 1) * (2 if is_dpo else 1)
    tokens = rows * _number(recipe, "sequence_len", 512)
    saved = _layer(shape, tokens, precision)
    backward = _layer_backward(shape, tokens, precision)
    if recipe.get("gradient_checkpointing"):
        held: float = shape.layers * tokens * shape.width * precision
        working = saved + backward
    else:
        held = shape.layers * saved
        working = backward
    trains_head = not is_lora or "lm_head" in (recipe.get("lora_modules_to_save") or [])
    logits: float = _logits(recipe, shape, tokens, precision, trains_head)
    # The logits are freed before the first layer is recomputed, so only the excess over it counts.
    logits = max(0.0, logits - working)
    vllm = _vllm_share(recipe)
    return MemoryEstimate(weights, gradients, optimizer, held + working, logits, cpu, vllm)


def _vllm_share(recipe: Mapping[str, Any]) -> float:
    """Return the share of each GPU that vLLM takes: 0 unless it runs on the GPUs that train."""
    trl = recipe.get("trl") or {}
    if not trl.get("use_vllm") or trl.get("vllm_mode") != "colocate":
        return 0.0
    if not trl.get("vllm_enable_sleep_mode"):
        raise InputError("vLLM on the GPUs that train needs vllm_enable_sleep_mode to be modelled")
    if trl.get("beta"):
        raise InputError("GRPO with a reference model (trl.beta) is not modelled")
    return float((recipe.get("vllm") or {}).get("gpu_memory_utilization") or 0.9)  # the default


def _layer(shape: Shape, tokens: int, size: int) -> float:
    """Return the bytes of activations that a layer saves for its backward pass.

    The counts follow the code of transformers' models. Each of the two norms keeps a float32 copy
    of its input, the normalised input and its output. So do Qwen3's norms of queries and keys.
    Attention keeps the rotated queries and keys, the values, and its output. The MLP keeps gate,
    its SiLU, up, and their product.
    """
    normed = 2 * shape.width + (shape.attention + shape.key_value) * bool(shape.head_norm)
    norms = normed * (4 + size) + normed * size
    attention = (2 * shape.attention + 2 * shape.key_value) * size
    mlp = 4 * shape.gate * size
    return float(tokens * (norms + attention + mlp))


def _layer_backward(shape: Shape, tokens: int, size: int) -> float:
    """Return the bytes of gradients held while the backward pass is in a layer's MLP.

    These are the gradients of the activations and of the layer's largest weight.
    """
    return float(
        (tokens * (2 * shape.gate + 2 * shape.width) + 2 * shape.gate * shape.width) * size
    )


def _logits(
    recipe: Mapping[str, Any], shape: Shape, tokens: int, size: int, trains_head: bool
) -> float:
    """Return the bytes of the logits and of everything computed from them.

    They are computed in chunks by ChunkedDPOTrainer or by Liger, or all at once.
    """
    head = shape.embedding
    if "ChunkedDPOTrainer" in str(recipe.get("trainer_cls")):
        chunk = min(DPO_CHUNK, tokens)
        # logits, their float32 copy and softmax; the head's float32 gradient and that of a chunk
        return float(chunk * shape.vocabulary * (size + 8) + trains_head * head * (4 + size + 4))
    if recipe.get("liger_fused_linear_cross_entropy"):
        parts = math.ceil(shape.vocabulary / shape.width)
        chunk = min(tokens, 1 << (math.ceil(tokens / parts) - 1).bit_length())
        gradient = tokens * shape.width * size + trains_head * head * size
        return float(chunk * shape.vocabulary * (size + 4) + gradient)
    # all at once: the logits, a float32 copy, its log-softmax, and the gradient
    return float(tokens * shape.vocabulary * (size + 12))


def _lora_parameters(recipe: Mapping[str, Any], shape: Shape) -> tuple[int, int]:
    """Return the numbers of parameters of the adapter and of the fully trained modules."""
    if not recipe.get("lora_target_linear"):
        raise InputError("LoRA without lora_target_linear is not modelled")
    rank = _number(recipe, "lora_r", 8)
    adapter = shape.layers * rank * sum(inputs + outputs for inputs, outputs in shape.linear)
    return adapter, len(recipe.get("lora_modules_to_save") or []) * shape.embedding


def _number(recipe: Mapping[str, Any], name: str, default: int) -> int:
    value = recipe.get(name) or default
    if not isinstance(value, int):
        raise InputError(f"{name}: {value} is not a whole number")
    return value


def _deepspeed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's ZeRO-3 settings, or {} if it does not use DeepSpeed."""
    value = recipe.get("deepspeed")
    if not value:
        return {}
    if isinstance(value, str):
        from longwriter_train.recipes import PREFIX, folder

        path = Path(value)
        if not path.is_file():
            path = folder() / value.removeprefix(PREFIX)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read deepspeed: {recipe['deepspeed']} ({error})") from error
    zero: Any = value.get("zero_optimization") if isinstance(value, dict) else None
    if not isinstance(zero, dict) or zero.get("stage") != 3:
        raise InputError("only stage 3 of DeepSpeed is modelled")
    return dict(zero)


def table(needed: MemoryEstimate, gpus: int, memory: float) -> str:
    """Return the estimate as lines for a terminal, with the verdict first."""
    peak = max(needed.total, needed.generation(memory))
    free = memory * (1 - RESERVE) - peak
    verdict = "fits" if needed.fits(memory) else "does not fit"
    lines = [
        f"{verdict}: {peak / GIB:.1f} GiB per GPU on {gpus} × {memory / GIB:.0f} GiB, "
        + (f"{free / GIB:.1f} GiB left" if free >= 0 else f"{-free / GIB:.1f} GiB too much")
        + f" with {RESERVE:.0%} kept free"
    ]
    parts = asdict(needed)
    cpu, _ = parts.pop("cpu"), parts.pop("vllm")
    lines += [f"  {name:<12}{value / GIB:>7.1f} GiB" for name, value in parts.items()]
    if needed.vllm:
        lines.append(f"  while vLLM generates: {needed.generation(memory) / GIB:.1f} GiB")
    if cpu:
        lines.append(f"  CPU memory  {cpu / GIB:>7.1f} GiB on the machine")
    return "\n".join(lines)
