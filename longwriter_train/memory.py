"""The GPU memory that a recipe needs, by arithmetic: `longwriter recipes fit`.

    shape = shape_of(recipe)
    estimate(recipe, shape, gpus=8).total     # bytes per GPU

Counts what is held at the peak, in the backward pass of a step's last micro-batch: weights,
gradients and the optimizer's states, a checkpoint per layer, the activations of the layer that is
being recomputed, and what the logits need beyond that. Buffers of NCCL, the CUDA context and
fragmentation are not counted, so `RESERVE` is kept free for them. tests/train/test_memory.py
compares the numbers with the measured peak of tiny models.

Needs neither torch nor a GPU.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError

GIB = 2**30
RESERVE = 0.08  # of a GPU's memory: CUDA context, NCCL's buffers, fragmentation
DPO_CHUNK = 2_048  # tokens, as in longwriter_train.dpo, which needs torch
ZERO3_LIVE = 1_000_000_000  # parameters gathered at a time: stage3_max_live_parameters' default
# Bytes per trained parameter that an optimizer keeps beside weights and gradients. "8bit" is two
# quantized moments; a moment has the type of its weight otherwise.
EIGHT_BIT = 2


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. `gate` is the width of the MLP; `attention` that of all query heads."""

    layers: int
    width: int
    gate: int
    attention: int
    key_value: int
    vocabulary: int
    attention_bias: bool = False
    tied: bool = False

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's matrices, gate and up apart."""
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
        """The parameters of the embedding, and as many again of the head unless it is tied."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All parameters."""
        biases = (self.attention + 2 * self.key_value) * self.attention_bias
        layer = sum(inputs * outputs for inputs, outputs in self.linear) + biases + 2 * self.width
        return self.layers * layer + (1 if self.tied else 2) * self.embedding + self.width


LLAMA_8B = Shape(32, 4_096, 14_336, 4_096, 1_024, 128_256)
GLM_9B = Shape(40, 4_096, 13_696, 4_096, 256, 151_552, attention_bias=True)
# Recipes name a model on the hub, or a checkpoint that another recipe will write.
KNOWN = {
    "meta-llama/Llama-3.1-8B": LLAMA_8B,
    "zai-org/glm-4-9b-hf": GLM_9B,
    "runs/llama3.1-8b-": LLAMA_8B,
    "runs/glm4-9b-": GLM_9B,
}


@dataclass(frozen=True)
class Estimate:
    """Bytes per GPU at the peak, and the CPU memory of the whole machine that an offload takes."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    cpu: float = 0.0

    @property
    def total(self) -> float:
        """Bytes per GPU."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits

    def fits(self, memory: float) -> bool:
        """Whether a GPU with `memory` bytes has room for it, with `RESERVE` left free."""
        return self.total <= memory * (1 - RESERVE)


def shape_of(recipe: Mapping[str, Any]) -> Shape:
    """The sizes of a recipe's base model: known, or from its config.json.

    Raises InputError for a model that is neither known nor a local folder.
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
    """The sizes in a Llama's or GLM's config.json. Raises InputError where one is missing."""
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
        )
    except KeyError as error:
        raise InputError(f"the model's config.json has no {error.args[0]}") from error


def estimate(recipe: Mapping[str, Any], shape: Shape, gpus: int) -> Estimate:
    """What each of `gpus` GPUs holds at the peak of a training step.

    Raises InputError for settings whose memory is not modelled.
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
        weights *= 2  # the reference
    # Groups of trained parameters: their number, and the bytes of a weight.
    trained = [(shape.parameters, precision)]
    if is_lora:
        adapter, whole = _lora_parameters(recipe, shape)
        trained = [(adapter, 4), (whole, precision)]
        weights += sum(count * size for count, size in trained) / shards
    # DeepSpeed's states include a float32 copy of the weights, and recipes sum gradients in it.
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
    # The logits are gone when the first layer is recomputed: they add what exceeds that layer.
    logits = max(0.0, logits - working)
    return Estimate(weights, gradients, optimizer, held + working, logits, cpu)


def _layer(shape: Shape, tokens: int, size: int) -> float:
    """The activations that a layer saves for its backward pass.

    Counted in the code of transformers' Llama and GLM: the two norms keep a float32 copy of their
    input, its normalised form and their output; attention keeps the rotated queries and keys, the
    values, and its output; the MLP keeps gate, its SiLU, up, and their product.
    """
    norms = 2 * shape.width * (4 + size) + 2 * shape.width * size
    attention = (2 * shape.attention + 2 * shape.key_value) * size
    mlp = 4 * shape.gate * size
    return float(tokens * (norms + attention + mlp))


def _layer_backward(shape: Shape, tokens: int, size: int) -> float:
    """The gradients on their way through a layer, at its MLP, and those of its largest weight."""
    return float(
        (tokens * (2 * shape.gate + 2 * shape.width) + 2 * shape.gate * shape.width) * size
    )


def _logits(
    recipe: Mapping[str, Any], shape: Shape, tokens: int, size: int, trains_head: bool
) -> float:
    """The logits and what is computed from them, in one of three ways."""
    head = shape.embedding
    if "ChunkedDPOTrainer" in str(recipe.get("trainer_cls")):
        chunk = min(DPO_CHUNK, tokens)
        # logits, in float32, their softmax; a float32 gradient of the head, and that of a chunk
        return float(chunk * shape.vocabulary * (size + 8) + trains_head * head * (4 + size + 4))
    if recipe.get("liger_fused_linear_cross_entropy"):
        parts = math.ceil(shape.vocabulary / shape.width)
        chunk = min(tokens, 1 << (math.ceil(tokens / parts) - 1).bit_length())
        gradient = tokens * shape.width * size + trains_head * head * size
        return float(chunk * shape.vocabulary * (size + 4) + gradient)
    # whole: the logits, a float32 copy, its log-softmax, and the gradient
    return float(tokens * shape.vocabulary * (size + 12))


def _lora_parameters(recipe: Mapping[str, Any], shape: Shape) -> tuple[int, int]:
    """The parameters of the adapter, and of the modules that are trained whole."""
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
    """The recipe's settings of ZeRO-3, or {} where it does not use DeepSpeed."""
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


def table(found: Estimate, gpus: int, memory: float) -> str:
    """The estimate as lines for a terminal, with the verdict first."""
    free = memory * (1 - RESERVE) - found.total
    verdict = "fits" if found.fits(memory) else "does not fit"
    lines = [
        f"{verdict}: {found.total / GIB:.1f} GiB per GPU on {gpus} × {memory / GIB:.0f} GiB, "
        + (f"{free / GIB:.1f} GiB left" if free >= 0 else f"{-free / GIB:.1f} GiB too much")
        + f" with {RESERVE:.0%} kept free"
    ]
    parts = asdict(found)
    cpu = parts.pop("cpu")
    lines += [f"  {name:<12}{value / GIB:>7.1f} GiB" for name, value in parts.items()]
    if cpu:
        lines.append(f"  CPU memory  {cpu / GIB:>7.1f} GiB on the machine")
    return "\n".join(lines)
