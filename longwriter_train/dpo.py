"""DPO on responses of 32k tokens without holding all logits of a pair in memory.

TRL's trainer holds the logits several times. With two responses of 32,768 tokens, a vocabulary of
151,552 and two bytes per logit, the logits take 20 GB, their log-softmax takes as much again, and
so does the gradient. Liger's fused DPO loss splits a batch by pairs, not by tokens, so it saves
nothing with one pair per GPU. Here `lm_head` returns the log-probability of each token instead of
its logits. It processes `CHUNK` tokens at a time and recomputes the logits in the backward pass.

The computation runs inside the forward pass of `lm_head`, so FSDP and ZeRO-3 gather its weight as
usual. To use it, set `trainer_cls: longwriter_train.dpo.ChunkedDPOTrainer` in a recipe. That class
needs axolotl and is created on first use. The rest of this module needs only torch and
transformers.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import Trainer

from longwriter_core.errors import InputError
from longwriter_train.loss.trainer import non_finite_weights

CHUNK = 2048  # tokens; 1.2 GB of float32 logits at a vocabulary of 151,552

# The losses of `dpo_loss_type` that this trainer computes. Several are added up, each times its
# entry in `dpo_loss_weights`.
LOSS_TYPES = (
    "sigmoid",  # DPO's own
    "sigmoid_norm",  # the same on the mean log-probability per token, so that length does not count
    "sft",  # cross-entropy of the chosen answers: TRL's former rpo_alpha is its weight
)
# Settings that this trainer does not support, and the values that disable them.
REQUIRED_SETTINGS = {
    "f_divergence_type": "reverse_kl",
    "label_smoothing": 0.0,
    "use_weighting": False,
    "use_liger_kernel": False,
    "sync_ref_model": False,
}
# Config settings of models that change the logits after lm_head, which is not supported.
LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class TokenLogProbs(torch.autograd.Function):  # type: ignore[misc]
    """The log-probabilities of given tokens under a linear head, without holding all logits.

    Inputs are `hidden` (tokens × width), `weight` (vocabulary × width) and `tokens` (tokens). The
    output is float32 (tokens). The softmax and the gradient of the weight are computed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the log-probability of each token."""
        ctx.save_for_backward(hidden, weight, tokens)
        return torch.cat(
            [
                F.log_softmax((states @ weight.t()).float(), dim=-1).gather(-1, ids[:, None])[:, 0]
                for states, ids in _chunks(hidden, tokens)
            ]
        )

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Return the gradients, from d log p(token) / d logits = onehot − softmax."""
        hidden, weight, tokens = ctx.saved_tensors
        hidden_gradient = torch.empty_like(hidden)
        is_trained = ctx.needs_input_grad[1]  # under LoRA the head is frozen
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if is_trained else None
        start = 0
        for states, ids in _chunks(hidden, tokens):
            part = slice(start, start := start + len(states))
            logits_gradient = F.softmax((states @ weight.t()).float(), dim=-1).neg_()
            logits_gradient.scatter_add_(-1, ids[:, None], torch.ones_like(logits_gradient[:, :1]))
            logits_gradient *= grad[part, None]
            logits_gradient = logits_gradient.to(weight.dtype)
            hidden_gradient[part] = logits_gradient @ weight
            if weight_gradient is not None:
                weight_gradient += (logits_gradient.t() @ states).float()
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(weight.dtype)
        return hidden_gradient, weight_gradient, None


def _chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    return zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True)


def head_layers(model: Any) -> list[Any]:
    """Return the linear layers that may compute this model's logits, whichever adapter is active.

    Most models have one. With `lora_modules_to_save: [lm_head]` PEFT keeps the original layer
    and a trained copy for each adapter.
    """
    head = model.get_output_embeddings()
    if hasattr(head, "original_module") and hasattr(head, "modules_to_save"):
        return [head.original_module, *head.modules_to_save.values()]
    return [head]


def check_head(model: Any) -> None:
    """Raise InputError unless the model's logits are its hidden states times its head's weight."""
    for layer in head_layers(model):
        if type(layer) is not torch.nn.Linear or layer.bias is not None:
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            raise InputError(
                f"ChunkedDPOTrainer needs an lm_head that is a linear layer without bias, not a "
                f"{kind}: remove lm_head from lora_target_modules (lora_modules_to_save may have "
                "it), and do not quantize it"
            )
    for name in LOGIT_TRANSFORMS:
        if (value := getattr(model.config, name, None)) not in (None, 1):
            raise InputError(
                f"ChunkedDPOTrainer does not compute {name}: {value} of this model's config: "
                "remove trainer_cls to use TRL's own trainer"
            )


@contextmanager
def log_probs_instead_of_logits(
    heads: Sequence[Any], tokens: torch.Tensor, is_answer: torch.Tensor
) -> Iterator[None]:
    """Within this context, `heads` return log-probabilities (batch × length) instead of logits.

    Each position holds the log-probability of the next of `tokens` (batch × length) if `is_answer`
    is set for that next token, and 0 otherwise.
    """
    following = tokens.roll(-1, dims=1)
    mask = is_answer.roll(-1, dims=1).bool()
    mask[:, -1] = False

    def forward_of(head: Any) -> Any:
        def forward(hidden: torch.Tensor) -> torch.Tensor:
            weight = head.weight
            log_probs = TokenLogProbs.apply(hidden[mask].to(weight.dtype), weight, following[mask])
            return torch.zeros(mask.shape, device=hidden.device).masked_scatter(mask, log_probs)

        return forward

    with ExitStack() as restore:
        for head in heads:
            head.forward = forward_of(head)  # set on the instance, so its class is unchanged
            restore.callback(delattr, head, "forward")
        yield


def token_log_probs(model: Any, inputs: dict[str, Any], heads: Sequence[Any]) -> torch.Tensor:
    """Return log p of each answer's tokens (rows × length), in order and 0 outside the answer."""
    with log_probs_instead_of_logits(heads, inputs["input_ids"], inputs["completion_mask"]):
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
    return outputs.logits


def answer_log_probs(
    log_probs: torch.Tensor, is_answer: torch.Tensor, ld_alpha: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p of the chosen and of the rejected answers (pairs), summed over their tokens.

    The first half of the rows are the chosen answers, the second half the rejected ones. With
    `ld_alpha` (LD-DPO, arXiv 2409.06411), the tokens of an answer beyond the length of the pair's
    shorter one count only ld_alpha times.
    """
    if ld_alpha is not None:
        following = is_answer.roll(-1, dims=1)  # log_probs[:, i] is that of token i + 1
        following[:, -1] = 0
        chosen_length, rejected_length = following.sum(dim=1).chunk(2)
        shared_length = torch.minimum(chosen_length, rejected_length).repeat(2)
        is_tail = following.cumsum(dim=1) > shared_length[:, None]
        log_probs = torch.where(is_tail, ld_alpha * log_probs, log_probs)
    chosen, rejected = log_probs.sum(dim=1).chunk(2)
    return chosen, rejected


class ChunkedDPO(Trainer):  # type: ignore[misc]
    """The mixin that `ChunkedDPOTrainer` puts before axolotl's DPO trainer.

    The tokens are those of `longwriter_train.chat`: prompt and answers are tokenized separately,
    and no token is added. Raises InputError for settings and models that it does not support.
    """

    def __init__(self, *positional: Any, args: Any, **named: Any) -> None:
        wrong = [
            f"{name}: {getattr(args, name)} (must be {value})"
            for name, value in REQUIRED_SETTINGS.items()
            if getattr(args, name) != value
        ]
        wrong += [
            f"loss_type: {loss_type} (must be one of {', '.join(LOSS_TYPES)})"
            for loss_type in args.loss_type
            if loss_type not in LOSS_TYPES
        ]
        if args.ld_alpha is not None and not 0 <= args.ld_alpha <= 1:
            wrong.append(f"ld_alpha: {args.ld_alpha} (must be from 0 to 1)")
        if wrong:
            raise InputError("ChunkedDPOTrainer does not compute " + ", ".join(wrong))
        super().__init__(*positional, args=args, **named)
        for model in (self.model, self.ref_model):
            if model is not None:
                check_head(model)
        if self.aux_loss_enabled:
            raise InputError(
                "ChunkedDPOTrainer does not compute the auxiliary loss of a mixture of experts: "
                "remove trainer_cls to use TRL's own trainer"
            )
        self._loss_is_verified = False

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        """Tokenize the rows. Raises InputError for a pair that would have to be truncated."""

        def tokenize(row: dict[str, str]) -> dict[str, list[int]]:
            ids: dict[str, list[int]] = {
                f"{name}_ids": processing_class(row[name], add_special_tokens=False)["input_ids"]
                for name in ("prompt", "chosen", "rejected")
            }
            longest = max(len(ids["chosen_ids"]), len(ids["rejected_ids"])) + len(ids["prompt_ids"])
            if args.max_length is not None and longest > args.max_length:
                raise InputError(f"a pair of {longest} tokens exceeds sequence_len")
            return ids

        return dataset.map(
            tokenize,
            num_proc=args.dataset_num_proc,
            remove_columns=dataset.column_names,
            desc=f"Tokenizing {dataset_name} pairs",
        )

    def _token_log_probs(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Return log p of each answer's tokens: all chosen answers, then all rejected ones."""
        heads = head_layers(self.accelerator.unwrap_model(model))
        return token_log_probs(model, inputs, heads)

    def compute_ref_log_probs(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log p of the chosen and of the rejected answers under the reference model.

        The reference is a model of its own, or the policy without its adapter.
        """
        from trl.models.utils import disable_gradient_checkpointing
        from trl.trainer.utils import use_adapter

        policy = self.accelerator.unwrap_model(model)
        reference = (
            use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None)
            if self.ref_model is None and hasattr(policy, "peft_config")
            else nullcontext()
        )
        no_checkpointing = disable_gradient_checkpointing(
            self.model, self.args.gradient_checkpointing_kwargs
        )
        with torch.no_grad(), no_checkpointing, reference:
            log_probs = self._token_log_probs(model, inputs)
        return answer_log_probs(log_probs, inputs["completion_mask"], self.ld_alpha)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if return_outputs:
            raise ValueError("ChunkedDPOTrainer has no logits to return")
        is_answer = inputs["completion_mask"]
        log_probs = self._token_log_probs(model, inputs)
        chosen, rejected = answer_log_probs(log_probs, is_answer, self.ld_alpha)
        if self.precompute_ref_logps:
            references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            references = self.compute_ref_log_probs(self.ref_model or model, inputs)
        chosen_reward = self.beta * (chosen - references[0])
        rejected_reward = self.beta * (rejected - references[1])
        margin = chosen_reward - rejected_reward
        chosen_tokens, rejected_tokens = is_answer.sum(dim=1).clamp(min=1).chunk(2)
        losses = {
            "sigmoid": -F.logsigmoid(margin).mean(),
            "sigmoid_norm": -F.logsigmoid(
                chosen_reward / chosen_tokens - rejected_reward / rejected_tokens
            ).mean(),
            "sft": -log_probs.chunk(2)[0].sum() / chosen_tokens.sum(),
        }
        loss = sum(
            weight * losses[kind]
            for kind, weight in zip(self.loss_types, self.loss_weights, strict=True)
        )
        if not self._loss_is_verified:
            if not torch.isfinite(loss):
                raise InputError(
                    f"ChunkedDPOTrainer: the loss of the first pair is {loss.item():g}"
                    f"{non_finite_weights(model)}; look at base_model and attn_implementation"
                )
            self._loss_is_verified = True
        logged = {
            "logps/chosen": chosen,
            "logps/rejected": rejected,
            "rewards/chosen": chosen_reward,
            "rewards/rejected": rejected_reward,
            "rewards/margins": margin,
            "rewards/accuracies": (margin > 0).float(),
        }
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, values in logged.items():
            metrics[name].append(self.accelerator.gather(values.detach()).mean().item())
        return loss

    def prediction_step(
        self, model: Any, inputs: Any, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None, None]:
        """Return the loss of an evaluation batch, without logits or labels."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)), None, None


@cache
def _trainer_class() -> type[Any]:
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer

    documentation = (
        "axolotl's DPO trainer with losses of TRL (LOSS_TYPES), for pairs of any length."
    )
    return type(
        "ChunkedDPOTrainer",
        (ChunkedDPO, AxolotlDPOTrainer),
        {"__doc__": documentation, "__module__": __name__},
    )


def __getattr__(name: str) -> Any:
    """Create `ChunkedDPOTrainer` on first access, because it needs axolotl."""
    if name != "ChunkedDPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _trainer_class()
