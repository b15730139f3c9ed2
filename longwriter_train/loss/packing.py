"""Packs that leave no sequence out.

axolotl 0.19.0 packs first-fit, four times over, and trains as many packs as the smallest of the
four has; on several ranks it also drops the packs of the last round that is not full, the same ones
in every epoch, and `max_steps` is rounded down besides. The released LongWriter code loses the
pack that is open at the end of its data, and those that do not fill a round of all GPUs.

Here the packs are made once, with the same first-fit, in one random order that all epochs and ranks
share, so that a run that goes on from a checkpoint finds them where they were. The last round is
filled with the shortest sequence, in packs of its own.
"""

from collections.abc import Iterator

import numpy as np
from axolotl.utils.samplers.multipack import pack_parallel
from torch.utils.data import BatchSampler, SequentialSampler


class LosslessPackSampler(BatchSampler):  # type: ignore[misc]
    """Batches of packs of the indices of `lengths`, each index at least once.

    `capacity` is a pack's size in tokens, `rows` the packs of a batch, and the number of batches a
    multiple of `ranks`, which take turns. `seed` None keeps the order that the sequences are in, as
    far as packing does. A pack has at most `most` sequences; `group` are packed at a time.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        capacity: int,
        rows: int,
        ranks: int,
        seed: int | None,
        *,
        most: int,
        group: int,
    ) -> None:
        super().__init__(SequentialSampler(lengths), batch_size=rows, drop_last=False)
        lengths = np.asarray(lengths, dtype=np.int32)
        drawn = np.random.default_rng(seed)
        order = np.arange(len(lengths)) if seed is None else drawn.permutation(len(lengths))
        found = pack_parallel(
            lengths[order], bin_capacity=capacity, group_size=group, bin_size=most, num_processes=1
        )
        packs = [[int(order[place]) for place in pack] for pack in found]
        if seed is not None:  # first-fit leaves the emptiest packs for last
            packs = [packs[place] for place in drawn.permutation(len(packs))]
        self.efficiency = float(lengths.sum() / (len(packs) * capacity))  # tokens / slots
        self.packs = len(packs)  # without those that only fill the last round
        packs += [[int(lengths.argmin())]] * (-len(packs) % (rows * ranks))
        self._batches = [packs[at : at + rows] for at in range(0, len(packs), rows)]

    def __iter__(self) -> Iterator[list[list[int]]]:
        """A list of packs for each batch, a list of indices for each pack."""
        return iter(self._batches)

    def __len__(self) -> int:
        """The number of batches, over all ranks."""
        return len(self._batches)
