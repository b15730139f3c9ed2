"""DPO on answers of 32k tokens: the logits of a pair are never held.

TRL's trainer holds them several times: a pair of 32,768 tokens each, a vocabulary of 151,552 and
two bytes are 20 GB, again for their log-softmax, and again for the gradient. (Liger's fused DPO
loss takes pairs, not tokens, one after the other, and with one pair per GPU saves nothing.) Here
`lm_head` gives each token's log-probability instead of its logits, `CHUNK` tokens at a time, and
computes the logits again in the backward pass.

It happens inside the module's own forward, so that FSDP and ZeRO-3 gather its weight as always.
A recipe says `trainer_cls: longwriter_train.dpo.ChunkedDPOTrainer`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

CHUNK = 2048  # tokens; 1.2 GB of float32 logits at a vocabulary of 151,552

# What this trainer does not compute, and the values that leave it off.
_MUST_BE = {
    "loss_type": ["sigmoid"],
    "f_divergence_type": "reverse_kl",
    "label_smoothing": 0.0,
    "use_weighting": False,
    "ld_alpha": None,
    "use_liger_kernel": False,
    "sync_ref_model": False,
}


class TokenLogProbs(torch.autograd.Function):  # type: ignore[misc]
    """The log-probabilities of given tokens under a linear head, without its logits in memory.

    `hidden` (tokens × width), `weight` (vocabulary × width), `tokens` (tokens) give float32
    (tokens). Softmax and the gradient of the weight are computed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Returns the log-probability of each token."""
        ctx.save_for_backward(hidden, weight, tokens)
        return torch.cat(
            [
                F.log_softmax((part @ weight.t()).float(), dim=-1).gather(-1, wanted[:, None])[:, 0]
                for part, wanted in _chunks(hidden, tokens)
            ]
        )

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """d log p(token) / d logits is onehot − softmax."""
        hidden, weight, tokens = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden)
        learned = ctx.needs_input_grad[1]  # not so under LoRA
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if learned else None
        done = 0
        for part, wanted in _chunks(hidden, tokens):
            here = slice(done, done := done + len(part))
            of_logits = F.softmax((part @ weight.t()).float(), dim=-1).neg_()
            of_logits.scatter_add_(-1, wanted[:, None], torch.ones_like(of_logits[:, :1]))
            of_logits *= grad[here, None]
            of_hidden[here] = of_logits.to(weight.dtype) @ weight
            if of_weight is not None:
                of_weight += (of_logits.to(weight.dtype).t() @ part).float()
        return of_hidden, None if of_weight is None else of_weight.to(weight.dtype), None


def _chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    return zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True)


@contextmanager
def giving_log_probs(head: Any, tokens: torch.Tensor, wanted: torch.Tensor) -> Iterator[None]:
    """While open, `head(hidden)` returns log-probabilities (batch × length) instead of logits.

    At each position, that of the next of `tokens` (batch × length) where `wanted` is set there,
    and 0 elsewhere.
    """
    following = tokens.roll(-1, dims=1)
    mask = wanted.roll(-1, dims=1).bool()
    mask[:, -1] = False

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        weight = head.weight
        chosen = TokenLogProbs.apply(hidden[mask].to(weight.dtype), weight, following[mask])
        return torch.zeros(mask.shape, device=hidden.device).masked_scatter(mask, chosen)

    head.forward = forward  # on the instance: the class, and every other head, stay as they are
    try:
        yield
    finally:
        del head.forward


class ChunkedDPOTrainer(AxolotlDPOTrainer):  # type: ignore[misc]
    """axolotl's DPO trainer with TRL's sigmoid loss, for pairs of any length.

    The tokens are those of `longwriter_train.chat`: prompt and answers are tokenized apart, and
    nothing is added to them. Raises ValueError for settings that it does not compute.
    """

    def __init__(self, *positional: Any, args: Any, **named: Any) -> None:
        wrong = [
            f"{name}: {getattr(args, name)} (must be {value})"
            for name, value in _MUST_BE.items()
            if getattr(args, name) != value
        ]
        if wrong:
            raise ValueError(f"{type(self).__name__} does not compute " + ", ".join(wrong))
        super().__init__(*positional, args=args, **named)
        if self.model.get_output_embeddings().bias is not None:
            raise ValueError(f"{type(self).__name__} needs a model whose lm_head has no bias")

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        """The rows' texts as token ids. Raises ValueError where one would have to be cut."""

        def tokenize(row: dict[str, str]) -> dict[str, list[int]]:
            ids: dict[str, list[int]] = {
                f"{name}_ids": processing_class(row[name], add_special_tokens=False)["input_ids"]
                for name in ("prompt", "chosen", "rejected")
            }
            longest = max(len(ids["chosen_ids"]), len(ids["rejected_ids"])) + len(ids["prompt_ids"])
            if args.max_length is not None and longest > args.max_length:
                raise ValueError(f"a pair of {longest} tokens exceeds sequence_len")
            return ids

        return dataset.map(
            tokenize,
            num_proc=args.dataset_num_proc,
            remove_columns=dataset.column_names,
            desc=f"Tokenizing {dataset_name} pairs",
        )

    def _answer_log_probs(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """log p of each answer given its prompt (2 × pairs): the chosen ones, then the rejected."""
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        with giving_log_probs(head, inputs["input_ids"], inputs["completion_mask"]):
            outputs = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
            )
        return outputs.logits.sum(dim=1)

    def compute_ref_log_probs(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same under the reference: a model of its own, or this one without its adapter."""
        adapted = self.accelerator.unwrap_model(model)
        without = (
            use_adapter(adapted, adapter_name="ref" if "ref" in adapted.peft_config else None)
            if self.ref_model is None and hasattr(adapted, "peft_config")
            else nullcontext()
        )
        checkpointing = disable_gradient_checkpointing(
            self.model, self.args.gradient_checkpointing_kwargs
        )
        with torch.no_grad(), checkpointing, without:
            chosen, rejected = self._answer_log_probs(model, inputs).chunk(2)
        return chosen, rejected

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if return_outputs:
            raise ValueError(f"{type(self).__name__} has no logits to return")
        chosen, rejected = self._answer_log_probs(model, inputs).chunk(2)
        if self.precompute_ref_logps:
            references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            references = self.compute_ref_log_probs(self.ref_model or model, inputs)
        chosen_reward = self.beta * (chosen - references[0])
        rejected_reward = self.beta * (rejected - references[1])
        margin = chosen_reward - rejected_reward
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
        return -F.logsigmoid(margin).mean()

    def prediction_step(
        self, model: Any, inputs: Any, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of an evaluation batch; there are no logits."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)), None, None
