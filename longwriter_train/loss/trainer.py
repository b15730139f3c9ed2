"""A trainer that averages the loss over the global batch, and a sampler that packs all data.

transformers can average over the global batch itself: it counts the labels of all micro-batches
and ranks, passes the count to the model as `num_items_in_batch`, and multiplies by the number of
ranks, over which gradients are averaged. axolotl 0.19.0 switches both halves off, for Llama and GLM
in `AxolotlTrainer.__init__` and for all models in `TrainerBuilderBase._set_base_training_args`.
This trainer switches them on again, with a count for each kind of average. The first micro-batch
verifies that the model divides by that count.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from longwriter_core.errors import InputError
from longwriter_train.loss.averages import IGNORED, Average, divisors, share_of_total, targets

# Relative difference allowed between two forward passes over the same micro-batch. bfloat16 kernels
# may differ in the last bits.
TOLERANCE = 1e-2


class LosslessPackSampler(BatchSampler):  # type: ignore[misc]
    """Batches of packs of the indices of `lengths`, without dropping any index.

    axolotl 0.19.0 runs its first-fit packing four times and trains on as many packs as the smallest
    of the four results has. On several ranks it also drops the packs of an incomplete last round,
    the same ones in every epoch, and rounds `max_steps` down. The released LongWriter code loses
    the unfinished pack at the end of its data and the packs that do not fill a round of all GPUs.

    This sampler packs once, with the same first-fit algorithm. All epochs and ranks share one
    random order, so a run resumed from a checkpoint gets the same packs. To fill the last round,
    it appends filler packs that contain only the shortest sequence. The trainer masks their labels.

    `capacity` is a pack's size in tokens, and `rows` is the number of packs in a batch. The number
    of batches is a multiple of `ranks`, which take the batches in turn. With `seed` None the
    sequences keep their order as far as packing allows. A pack has at most `max_sequences`
    sequences. `group_size` sequences are packed at a time.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        capacity: int,
        rows: int,
        ranks: int,
        seed: int | None,
        *,
        max_sequences: int,
        group_size: int,
    ) -> None:
        from axolotl.utils.samplers.multipack import pack_parallel

        super().__init__(SequentialSampler(lengths), batch_size=rows, drop_last=False)
        lengths = np.asarray(lengths, dtype=np.int32)
        rng = np.random.default_rng(seed)
        order = np.arange(len(lengths)) if seed is None else rng.permutation(len(lengths))
        bins = pack_parallel(
            lengths[order],
            bin_capacity=capacity,
            group_size=group_size,
            bin_size=max_sequences,
            num_processes=1,
        )
        packs = [[int(order[position]) for position in bin] for bin in bins]
        if seed is not None:  # first-fit puts the emptiest packs last
            packs = [packs[position] for position in rng.permutation(len(packs))]
        self.efficiency = float(lengths.sum() / (len(packs) * capacity))  # tokens / slots
        self.packs = len(packs)  # without the filler packs
        packs += [[int(lengths.argmin())]] * (-len(packs) % (rows * ranks))
        self._batches = [packs[start : start + rows] for start in range(0, len(packs), rows)]

    def __iter__(self) -> Iterator[list[list[int]]]:
        """Yield each batch as a list of packs. A pack is a list of indices."""
        return iter(self._batches)

    def __len__(self) -> int:
        """Return the number of batches over all ranks."""
        return len(self._batches)


class GlobalAverageTrainer(Trainer):  # type: ignore[misc]
    """A trainer that averages the loss over each step's global batch, as `average` says."""

    average: Average = "token"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True
        self._divisor_is_verified = False
        self._packs: int | None = None  # per epoch; None without LosslessPackSampler
        self._eval_packs: int | None = None
        self._eval_sums: list[tuple[Tensor, Tensor]] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return a `LosslessPackSampler`, unless packing is off or keeps the order of the data."""
        args, self._packs = self.args, None
        if not args.sample_packing or args.sample_packing_sequentially:
            return super()._get_train_sampler(train_dataset)
        sampler = self._pack_sampler(
            self.train_dataset if train_dataset is None else train_dataset,
            None if args.curriculum_sampling else args.seed,
        )
        self._packs = sampler.packs
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any = None) -> Any:
        """Return the same for evaluation, where axolotl would drop an incomplete last round."""
        args, self._eval_packs = self.args, None
        if (
            eval_dataset is None
            or not (args.sample_packing and args.eval_sample_packing)
            or args.sample_packing_sequentially
        ):
            return super()._get_eval_sampler(eval_dataset)
        sampler = self._pack_sampler(eval_dataset, None)
        self._eval_packs = sampler.packs
        return sampler

    def _pack_sampler(self, dataset: Any, seed: int | None) -> LosslessPackSampler:
        from axolotl.utils.samplers import get_dataset_lengths

        args, size = self.args, self._train_batch_size
        real_batches = args.multipack_real_batches
        return LosslessPackSampler(
            get_dataset_lengths(dataset),
            capacity=args.max_seq_length * (1 if real_batches else size),
            rows=size if real_batches else 1,
            ranks=args.world_size,
            seed=seed,
            max_sequences=args.sample_packing_bin_size,
            group_size=args.sample_packing_group_size,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """Return the average's total over these micro-batches on all ranks."""
        if (
            self._packs is not None
            and batch_samples
            and self.accelerator.gradient_state.end_of_dataloader
        ):
            # Only the last round has filler packs. It is the last micro-batch of each rank.
            rows, ranks = batch_samples[-1]["labels"].shape[0], self.args.world_size
            last_round = (self._packs - 1) // (rows * ranks) * ranks
            self._mask_filler(batch_samples[-1], self._packs, last_round)
        for batch in batch_samples:
            batch["labels"] = targets(batch)
        total = torch.zeros((), dtype=torch.long, device=device)
        for batch in batch_samples:
            total += share_of_total(self.average, batch).to(device)
        total = self.accelerator.gather(total).sum()
        if parallelism := self.accelerator.parallelism_config:
            total = total // parallelism.non_data_parallel_size
        return total

    def _mask_filler(self, batch: dict[str, Any], packs: int, round_start: int) -> None:
        """Remove the labels of a micro-batch's filler packs.

        `round_start` is the number of batches that all ranks together processed before this round.
        """
        number = round_start + self.accelerator.process_index
        real = max(0, packs - number * batch["labels"].shape[0])
        batch["labels"][real:] = IGNORED

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return one micro-batch's part of the step's loss, times the number of ranks.

        Averaging the gradients over the ranks divides by that number again.
        """
        self._check_batch(model, inputs, num_items_in_batch)
        assert num_items_in_batch is not None
        divisor, factor = divisors(self.average, inputs, num_items_in_batch)
        if model.training and not self._divisor_is_verified:
            self._verify_divisor(model, inputs, divisor)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch=divisor)
        loss = loss * factor
        if not model.training:
            self._eval_sums.append((loss.detach() * num_items_in_batch, num_items_in_batch))
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As in the base class, but mask the rows that only fill up the last round of the ranks."""
        state, accelerator = self.accelerator.gradient_state, self.accelerator
        if self._eval_packs is not None:
            self._mask_filler(inputs, self._eval_packs, len(self._eval_sums) * self.args.world_size)
        elif state.end_of_dataloader and accelerator.even_batches and state.remainder > 0:
            rows = inputs["labels"].shape[0]
            real = max(0, state.remainder - accelerator.process_index * rows)
            inputs["labels"][real:] = IGNORED
        return super().prediction_step(model, inputs, *args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As in the base class, but average over the whole set instead of averaging batch means."""
        self._eval_sums = []
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if self._eval_sums and output.metrics is not None:
            sums, totals = (
                torch.stack(column).sum() for column in zip(*self._eval_sums, strict=True)
            )
            mean = self.accelerator.gather(sums.double()).mean() / totals.clamp(min=1)
            output.metrics[f"{prefix}_loss"] = mean.item()
        self._eval_sums = []
        return output

    def _check_batch(self, model: nn.Module, inputs: dict[str, Any], total: Tensor | None) -> None:
        if total is None or "labels" not in inputs:
            raise InputError("LossPlugin: a batch has no labels, or the batch's total is missing")
        packed = self.args.sample_packing if model.training else self.args.eval_sample_packing
        positions = inputs.get("position_ids")
        if packed and (positions is None or positions.ndim != 2):
            raise InputError(
                "LossPlugin: a pack has no position_ids, so its sequences cannot be told apart; "
                "do not set remove_unused_columns, or set sample_packing: false"
            )

    def _verify_divisor(self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor) -> None:
        """Run the first micro-batch twice to verify that the model divides by the given divisor."""
        losses = [self._loss_without_gradient(model, inputs, divisor * n) for n in (1, 2)]
        # The losses are summed over all ranks, so that all ranks reach the same result. They must
        # agree because under ZeRO-3 a forward pass needs every rank.
        once, half = self.accelerator.gather(torch.stack(losses)[None]).sum(dim=0)
        if not torch.isfinite(once):
            raise InputError(
                f"LossPlugin: the loss of the first micro-batch is {once:g}"
                f"{non_finite_weights(model)}; look at base_model and attn_implementation"
            )
        if once == 0:
            return  # a micro-batch without labels verifies nothing; check the next one
        if not torch.allclose(once, 2 * half, rtol=TOLERANCE):
            kind = type(self.accelerator.unwrap_model(model)).__name__
            raise InputError(
                f"LossPlugin: {kind} does not divide its loss by num_items_in_batch (the loss is "
                f"{once:g}, and {half:g} with twice the number): its forward pass is patched, for "
                "example by another fused cross-entropy; switch that off"
            )
        self._divisor_is_verified = True

    def _loss_without_gradient(
        self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor
    ) -> Tensor:
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=devices),
            warnings.catch_warnings(),
        ):
            # Reentrant gradient checkpointing warns about this, but no gradient is needed here.
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
            loss: Tensor = model(**inputs, num_items_in_batch=divisor)["loss"]
        return loss


def non_finite_weights(model: nn.Module) -> str:
    """Return which weights on this rank hold NaN or infinity, as the end of a sentence."""
    names = [
        f"{name} holds {'NaN' if torch.isnan(weights).any() else 'infinity'}"
        for name, weights in model.named_parameters()
        if not torch.isfinite(weights).all()
    ]
    if not names:
        return ", though all weights are finite"
    more = f" and so do {len(names) - 1} more weights" if len(names) > 1 else ""
    return f", because {names[0]}{more}"


def trainer_class(average: Average) -> type[Any]:
    """Return axolotl's SFT trainer with that average. Imports axolotl."""
    from axolotl.core.trainers.base import AxolotlTrainer

    return type("LossTrainer", (GlobalAverageTrainer, AxolotlTrainer), {"average": average})
