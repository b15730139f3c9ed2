"""The averages' weights and the cross-entropy that takes them, without a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from longwriter_core.errors import InputError
from longwriter_train.loss import averages, cross_entropy
from longwriter_train.loss import pinned_internals as seams
from longwriter_train.loss.averages import divisors, share_of_total
from longwriter_train.loss.settings import refusals

# Label counts of the sequences in each micro-batch, of 5 tokens each but for the last row.
WINDOW = ([3, 1], [4], [2, 0, 4])


def micro_batch(labels: Sequence[int], padding: int = 3) -> dict[str, Any]:
    """A pack of 5-token sequences whose last so many tokens carry loss, and padding."""
    positions = [*range(5)] * len(labels) + [*range(padding)]
    marked = [n + 1 if n >= 5 - count else -100 for count in labels for n in range(5)]
    return {
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([marked + [-100] * padding]),
    }


def weights(average: averages.Average) -> list[float]:
    """The weight of every label token of the window, micro-batch by micro-batch."""
    batches = [micro_batch(labels) for labels in WINDOW]
    total = torch.stack([share_of_total(average, batch) for batch in batches]).sum()
    found: list[float] = []
    for batch in batches:
        divisor, factor = divisors(average, batch, total)
        each = (factor / divisor).expand_as(batch["labels"])
        found += each[batch["labels"] != averages.IGNORED].tolist()
    return found


def test_token_weighs_every_label_the_same() -> None:
    assert weights("token") == pytest.approx([1 / 14] * 14)


def test_sequence_weighs_every_sequence_with_a_label_the_same() -> None:
    counts = [3, 1, 4, 2, 4]
    assert weights("sequence") == pytest.approx([1 / n / 5 for n in counts for _ in range(n)])


def test_upstream_weighs_a_pack_by_its_sequences_over_30() -> None:
    packs = [(2, 4), (1, 4), (2, 6)]  # sequences with a label, labels
    wanted = [s / 30 / n / 3 for s, n in packs for _ in range(n)]
    assert weights("upstream") == pytest.approx(wanted)


@pytest.mark.parametrize("average", averages.AVERAGES)
def test_a_first_token_is_never_predicted_in_a_pack_or_alone(average: averages.Average) -> None:
    all_labels, without_first = micro_batch([5, 5]), micro_batch([4, 4])
    total = share_of_total(average, without_first)
    assert share_of_total(average, all_labels) == total
    assert (averages.targets(all_labels) == without_first["labels"]).all()
    rows = {"labels": torch.tensor([[1, 2, 3], [4, 5, -100]])}
    assert averages.labels_per_sequence(rows).tolist() == [2, 1]


@pytest.mark.parametrize("average", averages.AVERAGES)
def test_a_batch_without_labels_divides_by_nothing(average: averages.Average) -> None:
    empty = micro_batch([0, 0])
    divisor, factor = divisors(average, empty, share_of_total(average, empty))
    assert (divisor >= 1).all()
    assert torch.isfinite(factor)


@pytest.mark.parametrize("chunk", [4, 1024])
def test_the_fused_cross_entropy_is_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK", chunk)
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 8), torch.randn(30, 8)
    labels = torch.randint(0, 30, (2, 9))
    labels[0, :4] = averages.IGNORED
    divisor = torch.randint(1, 6, (2, 9))
    found, wanted = (
        [tensor.clone().requires_grad_() for tensor in (hidden, head)] for _ in range(2)
    )
    loss = cross_entropy.weighted_cross_entropy(found[0], found[1], labels, divisor)
    (3 * loss).backward()
    logits = wanted[0][:, :-1] @ wanted[1].T
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none"
    )
    plain = (each / divisor[:, 1:].flatten()).sum()
    (3 * plain).backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_fused_cross_entropy_of_no_labels_is_zero() -> None:
    hidden = torch.randn(1, 5, 8, requires_grad=True)
    labels = torch.full((1, 5), averages.IGNORED)
    loss = cross_entropy.weighted_cross_entropy(hidden, torch.randn(30, 8), labels, labels.abs())
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rl", "dpo"),
        ("reward_model", True),
        ("trainer_cls", "my.Trainer"),
        ("context_parallel_size", 2),
        ("tensor_parallel_size", 4),
        ("liger_use_token_scaling", True),
    ],
)
def test_a_setting_under_which_the_average_would_be_wrong_is_named(
    setting: str, value: object
) -> None:
    (line,) = refusals({"loss_average": "token", setting: value})
    assert line.startswith(f"{setting}: {value} ")


@pytest.mark.parametrize("value", [None, False, 1])
def test_one_rank_is_no_parallelism(value: object) -> None:
    assert refusals({"loss_average": "token", "context_parallel_size": value}) == []


def test_all_that_is_wrong_is_said_at_once() -> None:
    recipe = {"loss_average": "sequence", "cut_cross_entropy": True, "use_eaft": True}
    assert len(refusals(recipe)) == 2
    assert refusals({**recipe, "use_eaft": False, "loss_average": "token"}) == []


def test_another_version_or_a_changed_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "VERSIONS", {"torch": "0.0.1", "no-such-package": "1"})
    monkeypatch.setattr(seams, "SOURCES", {"json:dumps": "0" * 16, "json:gone": "0" * 16})
    with pytest.raises(InputError) as refused:
        seams.check_pinned_internals()
    said = str(refused.value)
    assert "torch is 2" in said
    assert "not 0.0.1" in said
    assert "no-such-package is missing, not 1" in said
    assert "json:dumps has changed" in said
    assert "json:gone has changed" in said
