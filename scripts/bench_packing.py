"""Measure packing: how full packs are, what each packer drops, and how much faster training is.

    python scripts/bench_packing.py [--output FILE.md] [--sequences N] [--no-training]

Prints two Markdown tables, and exits with 1 if LossPlugin's packs are under 98% full or lose a
sequence. The lengths are random: for each long text, like those of LongWriter-6k (2,000 to 32,000
words), there are 30 texts like those of a general SFT set. The packers are axolotl's own,
LossPlugin's, and upstream's, which keeps one pack open at a time and closes it at the first
sequence that does not fit (train/sort_and_group.py). The second table trains a tiny random Llama on
this machine's CPU, with the same lengths divided by 16 and packs of 2,048.
Needs `pip install ".[train]"`; takes about three minutes on two cores.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bench_table import table

CAPACITY = 32_768  # tokens
GOAL = 0.98
TOKENS_PER_WORD = 1.3  # Llama-3.1 on English prose
SHRINK = 16  # the tiny model's sequences are shorter by this factor
TRAINED = 600  # sequences in the timed pass
SEED = 20240813

Table = list[Sequence[str]]


def longwriter_lengths(sequences: int) -> np.ndarray:
    """Lengths in tokens, in random order: 1 of 31 is long, the others are conversations."""
    drawn = np.random.default_rng(SEED)
    long = sequences // 31
    words = np.clip(drawn.lognormal(np.log(6_000), 0.7, long), 2_000, 32_000)
    short = np.clip(drawn.lognormal(np.log(450), 0.9, sequences - long), 20, 8_000)
    tokens = np.concatenate([np.minimum(words * TOKENS_PER_WORD, CAPACITY), short]).astype(np.int32)
    return drawn.permutation(tokens)


def one_open_pack(lengths: np.ndarray, ranks: int) -> tuple[list[int], int]:
    """Upstream's packing: the tokens in each kept pack, and the number of dropped sequences.

    The last pack is dropped because it stays open. Packs that do not fill a round of all ranks are
    also dropped.
    """
    packs, sizes, used, count = [], [], 0, 0
    for length in lengths:
        if used + length > CAPACITY:
            packs.append(used)
            sizes.append(count)
            used, count = 0, 0
        used, count = used + int(length), count + 1
    kept = len(packs) // ranks * ranks
    return packs[:kept], count + sum(sizes[kept:])


def efficiency(lengths: np.ndarray, ranks: int) -> Table:
    """How full the packs are, and the sequences that an epoch leaves out, for each packer."""
    import torch
    from axolotl.utils.samplers import MultipackBatchSampler
    from torch.utils.data import RandomSampler

    from longwriter_train.loss.trainer import LosslessPackSampler

    torch.manual_seed(SEED)
    rows: Table = []

    def add(name: str, tokens: int, packs: int, lost: int, seconds: float) -> None:
        full = tokens / (packs * CAPACITY)
        rows.append([name, f"{packs:,}", f"{100 * full:.2f}%", f"{lost:,}", f"{seconds:.1f} s"])

    start = time.perf_counter()
    kept, lost = one_open_pack(lengths, ranks)
    add("upstream", sum(kept), len(kept), lost, time.perf_counter() - start)

    start = time.perf_counter()
    theirs = MultipackBatchSampler(
        RandomSampler(range(len(lengths))), batch_size=1, batch_max_len=CAPACITY, lengths=lengths,
        group_size=100_000, bin_size=200, drop_last=True, num_processes=1,
    )  # fmt: skip
    count = len(theirs) // ranks * ranks  # accelerate gives each rank the same number
    used = [index for batch in list(theirs)[:count] for pack in batch for index in pack]
    seconds = time.perf_counter() - start
    add("axolotl", int(lengths[used].sum()), count, len(lengths) - len(set(used)), seconds)

    start = time.perf_counter()
    ours = LosslessPackSampler(
        lengths, CAPACITY, 1, ranks, SEED, max_sequences=200, group_size=100_000
    )
    used = [index for batch in ours for pack in batch for index in pack]
    seconds = time.perf_counter() - start
    add("LossPlugin", int(lengths[used].sum()), len(ours), len(lengths) - len(set(used)), seconds)
    return rows


def training(lengths: np.ndarray) -> Table:
    """Tokens per second of a tiny Llama on packs, and on padded rows with as many tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from longwriter_train.loss.trainer import LosslessPackSampler

    capacity, drawn = CAPACITY // SHRINK, np.random.default_rng(SEED)
    lengths = np.maximum(lengths[:TRAINED] // SHRINK, 2)
    torch.manual_seed(SEED)
    sizes = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=1_024, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
        max_position_embeddings=capacity, attn_implementation="sdpa", **sizes,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    ids = [torch.from_numpy(drawn.integers(1, 1_024, int(length))) for length in lengths]

    def packed(pack: Sequence[int]) -> dict[str, torch.Tensor]:
        row = torch.cat([ids[index] for index in pack])[None]
        positions = torch.cat([torch.arange(len(ids[index])) for index in pack])[None]
        starts = positions == 0
        return {
            "input_ids": row,
            "position_ids": positions,
            "labels": row.masked_fill(starts, -100),
        }

    def padded(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        batch = pad([ids[index] for index in rows], batch_first=True)
        mask = pad([torch.ones_like(ids[index]) for index in rows], batch_first=True)
        labels = batch.masked_fill(mask == 0, -100)
        return {"input_ids": batch, "attention_mask": mask, "labels": labels}

    def speed(
        batches: Sequence[Sequence[int]], make: Callable[[Sequence[int]], dict[str, torch.Tensor]]
    ) -> tuple[float, float]:
        tokens, slots, start = 0, 0, 0.0
        for number, indices in enumerate(batches):
            if number == 1:  # the first batch is a warm-up
                start = time.perf_counter()
            model(**make(indices)).loss.backward()
            model.zero_grad()
            if number:
                tokens += sum(len(ids[index]) for index in indices)
                slots += make(indices)["input_ids"].numel()
        return tokens / (time.perf_counter() - start), tokens / slots

    packs = [
        batch[0]
        for batch in LosslessPackSampler(
            lengths, capacity, 1, 1, SEED, max_sequences=200, group_size=100_000
        )
    ]
    order = drawn.permutation(len(lengths))
    eights = [order[at : at + 8].tolist() for at in range(0, len(order), 8)]
    speeds = {
        f"packed, {capacity:,} tokens a pack": speed(packs, packed),
        "padded, 8 sequences a batch": speed(eights, padded),
    }
    slowest = min(rate for rate, _ in speeds.values())
    return [
        [name, f"{rate:,.0f}", f"{rate / slowest:.2f}", f"{100 * full:.1f}%"]
        for name, (rate, full) in speeds.items()
    ]


def main() -> int:
    """Print the tables; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--sequences", type=int, default=186_000)
    parser.add_argument("--ranks", type=int, default=8, help="GPUs that the packs are for")
    parser.add_argument("--no-training", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    lengths = longwriter_lengths(args.sequences)
    packers = efficiency(lengths, args.ranks)
    head = ["packer", "packs an epoch", "full", "sequences left out", "time to pack"]
    text = f"{len(lengths):,} sequences, {lengths.sum():,} tokens, {args.ranks} GPUs\n\n"
    text += table(head, packers)
    if not args.no_training:
        head = ["training", "tokens/s", "times", "full"]
        text += "\n" + table(head, training(lengths))
    print(text)
    if args.output:
        args.output.write_text(text)
    full, lost = packers[-1][2], packers[-1][3]
    return 0 if float(full.rstrip("%")) >= 100 * GOAL and lost == "0" else 1


if __name__ == "__main__":
    sys.exit(main())
