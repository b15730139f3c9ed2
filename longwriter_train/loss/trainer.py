"""axolotl's trainer with a step's loss averaged over the global batch.

transformers can do this itself: it counts the labels of all micro-batches and ranks, hands the
count to the model as `num_items_in_batch`, and multiplies by the ranks, whose gradients are
averaged. axolotl 0.19.0 turns both halves off, for Llama and GLM in `AxolotlTrainer.__init__` and
for all in `TrainerBuilderBase._set_base_training_args`. Here they are on again, with a count of our
own for each average, and the first micro-batch proves that the model divides by it.
"""

from functools import wraps
from typing import Any

import torch
from axolotl.core.trainers.base import AxolotlTrainer
from axolotl.utils.samplers import get_dataset_lengths
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.trainer_utils import EvalLoopOutput

from longwriter_core.errors import InputError
from longwriter_train.loss.averages import IGNORED, Average, divisors, share_of_total, targets
from longwriter_train.loss.cross_entropy import weighted_cross_entropy
from longwriter_train.loss.packing import LosslessPackSampler

# A forward pass run twice on the same micro-batch; bfloat16 kernels may differ in the last bits.
TOLERANCE = 1e-2


class LossTrainer(AxolotlTrainer):  # type: ignore[misc]
    """An `AxolotlTrainer` whose loss is the average that `loss_average` names.

    `get_trainer_cls` makes a subclass with `average` set.
    """

    average: Average = "token"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True
        self._proven = False
        self._evaluated: list[tuple[Tensor, Tensor]] = []
        self._evaluated_packs: int | None = None  # where they are packed

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Packs that leave no sequence out, where axolotl would pack."""
        args = self.args
        if not args.sample_packing or args.sample_packing_sequentially:
            return super()._get_train_sampler(train_dataset)
        return self._whole_packs(
            self.train_dataset if train_dataset is None else train_dataset,
            None if args.curriculum_sampling else args.seed,
        )

    def _get_eval_sampler(self, eval_dataset: Any = None) -> Any:
        """The same, where axolotl would leave out what does not fill a round of all ranks."""
        args, self._evaluated_packs = self.args, None
        if (
            eval_dataset is None
            or not (args.sample_packing and args.eval_sample_packing)
            or args.sample_packing_sequentially
        ):
            return super()._get_eval_sampler(eval_dataset)
        sampler = self._whole_packs(eval_dataset, None)
        self._evaluated_packs = sampler.packs
        return sampler

    def _whole_packs(self, dataset: Any, seed: int | None) -> LosslessPackSampler:
        args, size = self.args, self._train_batch_size
        real = args.multipack_real_batches
        return LosslessPackSampler(
            get_dataset_lengths(dataset),
            capacity=args.max_seq_length * (1 if real else size),
            rows=size if real else 1,
            ranks=args.world_size,
            seed=seed,
            most=args.sample_packing_bin_size,
            group=args.sample_packing_group_size,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """The average's total over these micro-batches on all ranks."""
        for batch in batch_samples:
            batch["labels"] = targets(batch)
        total = torch.zeros((), dtype=torch.long, device=device)
        for batch in batch_samples:
            total += share_of_total(self.average, batch).to(device)
        total = self.accelerator.gather(total).sum()
        if parallelism := self.accelerator.parallelism_config:
            total = total // parallelism.non_data_parallel_size
        return total

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """One micro-batch's part of the step's loss, times the ranks that gradients are averaged
        over.
        """
        self._check(model, inputs, num_items_in_batch)
        assert num_items_in_batch is not None
        divisor, factor = divisors(self.average, inputs, num_items_in_batch)
        if model.training and not self._proven:
            self._verify_divisor(model, inputs, divisor)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch=divisor)
        loss = loss * factor
        if not model.training:
            self._evaluated.append((loss.detach() * num_items_in_batch, num_items_in_batch))
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As the trainer's, without the rows that only fill the last round of several ranks."""
        state, accelerator = self.accelerator.gradient_state, self.accelerator
        if self._evaluated_packs is not None:  # ranks take turns, a batch each
            batch = len(self._evaluated) * self.args.world_size + accelerator.process_index
            real = max(0, self._evaluated_packs - batch * inputs["labels"].shape[0])
            inputs["labels"][real:] = IGNORED
        elif state.end_of_dataloader and accelerator.even_batches and state.remainder > 0:
            rows = inputs["labels"].shape[0]
            real = max(0, state.remainder - accelerator.process_index * rows)
            inputs["labels"][real:] = IGNORED
        return super().prediction_step(model, inputs, *args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the trainer's, with the average taken over the whole set, not over batches' means."""
        self._evaluated = []
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if self._evaluated and output.metrics is not None:
            sums, totals = (
                torch.stack(column).sum() for column in zip(*self._evaluated, strict=True)
            )
            mean = self.accelerator.gather(sums.double()).mean() / totals.clamp(min=1)
            output.metrics[f"{prefix}_loss"] = mean.item()
        self._evaluated = []
        return output

    def _check(self, model: nn.Module, inputs: dict[str, Any], total: Tensor | None) -> None:
        if total is None or "labels" not in inputs:
            raise InputError(
                "LossPlugin: a batch came without labels, or without the batch's total"
            )
        packed = self.args.sample_packing if model.training else self.args.eval_sample_packing
        positions = inputs.get("position_ids")
        if packed and (positions is None or positions.ndim != 2):
            raise InputError(
                "LossPlugin: a pack came without its position_ids, so its sequences cannot be told "
                "apart; leave remove_unused_columns alone, or set sample_packing: false"
            )

    def _verify_divisor(self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor) -> None:
        """Run the first micro-batch twice, to see that the model divides by what it is given."""
        peeks = [self._peek(model, inputs, divisor * n) for n in (1, 2)]
        # over all ranks, because each must come to the same end: with ZeRO-3 a pass takes them all
        once, half = self.accelerator.gather(torch.stack(peeks)[None]).sum(dim=0)
        if once == 0:
            return  # no label in this micro-batch: it proves nothing, the next one may
        if not torch.allclose(once, 2 * half, rtol=TOLERANCE):
            kind = type(self.accelerator.unwrap_model(model)).__name__
            raise InputError(
                f"LossPlugin: {kind} does not divide its loss by num_items_in_batch ({once:g}, and "
                f"{half:g} with twice as many): a patch of its forward pass, such as another fused "
                f"cross-entropy, is in the way; turn it off"
            )
        self._proven = True

    def _peek(self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor) -> Tensor:
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            loss: Tensor = model(**inputs, num_items_in_batch=divisor)["loss"]
        return loss


def weigh_each_token(model: Any) -> None:
    """Give a causal model a forward pass that takes a divisor for each token, and no logits.

    For models whose own is base model, linear head, `loss_function`, and nothing between; the
    caller checks that (`plain_head`). Without labels it is the model's own.
    """
    own = model.forward

    @wraps(own)  # the trainer reads the signature, to know the columns that the model takes
    def forward(
        *args: Any,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if labels is None or num_items_in_batch is None:
            return own(*args, labels=labels, **kwargs)
        hidden = model.model(*args, **kwargs).last_hidden_state
        loss = weighted_cross_entropy(hidden, model.lm_head.weight, labels, num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss)

    model.forward = forward
