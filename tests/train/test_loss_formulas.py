"""The weights of the three averages and the weighted cross-entropy, tested without a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from longwriter_core.errors import InputError
from longwriter_train.loss import averages, requirements
from longwriter_train.loss.averages import divisors, share_of_total
from longwriter_train.loss.requirements import refused_settings

# Label counts of the sequences in each micro-batch.
WINDOW = ([3, 1], [4], [2, 0, 4])


def micro_batch(labels: Sequence[int], padding: int = 3) -> dict[str, Any]:
    """Return a pack of 5-token sequences, each with the given number of labels, and padding."""
    positions = [*range(5)] * len(labels) + [*range(padding)]
    marked = [n + 1 if n >= 5 - count else -100 for count in labels for n in range(5)]
    return {
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([marked + [-100] * padding]),
    }


def weights(average: averages.Average) -> list[float]:
    """Return the weight of every label token in the window, in order."""
    batches = [micro_batch(labels) for labels in WINDOW]
    total = torch.stack([share_of_total(average, batch) for batch in batches]).sum()
    computed: list[float] = []
    for batch in batches:
        divisor, factor = divisors(average, batch, total)
        token_weights = (factor / divisor).expand_as(batch["labels"])
        computed += token_weights[batch["labels"] != averages.IGNORED].tolist()
    return computed


def test_token_gives_every_label_the_same_weight() -> None:
    assert weights("token") == pytest.approx([1 / 14] * 14)


def test_sequence_gives_every_sequence_with_a_label_the_same_weight() -> None:
    counts = [3, 1, 4, 2, 4]
    assert weights("sequence") == pytest.approx([1 / n / 5 for n in counts for _ in range(n)])


def test_upstream_multiplies_a_packs_mean_by_its_sequences_over_30() -> None:
    packs = [(2, 4), (1, 4), (2, 6)]  # sequences with a label, labels
    expected = [s / 30 / n / 3 for s, n in packs for _ in range(n)]
    assert weights("upstream") == pytest.approx(expected)


@pytest.mark.parametrize("average", averages.AVERAGES)
def test_the_first_token_of_a_sequence_is_never_predicted(average: averages.Average) -> None:
    all_labels, without_first = micro_batch([5, 5]), micro_batch([4, 4])
    total = share_of_total(average, without_first)
    assert share_of_total(average, all_labels) == total
    assert (averages.targets(all_labels) == without_first["labels"]).all()
    rows = {"labels": torch.tensor([[1, 2, 3], [4, 5, -100]])}
    assert averages.labels_per_sequence(rows).tolist() == [2, 1]


@pytest.mark.parametrize("average", averages.AVERAGES)
def test_a_batch_without_labels_is_not_divided_by_zero(average: averages.Average) -> None:
    empty = micro_batch([0, 0])
    divisor, factor = divisors(average, empty, share_of_total(average, empty))
    assert (divisor >= 1).all()
    assert torch.isfinite(factor)


@pytest.mark.parametrize("chunk", [4, 1024])
def test_the_weighted_cross_entropy_equals_the_unfused_one(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(averages, "CHUNK", chunk)
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 8), torch.randn(30, 8)
    labels = torch.randint(0, 30, (2, 9))
    labels[0, :4] = averages.IGNORED
    divisor = torch.randint(1, 6, (2, 9))
    computed, expected = (
        [tensor.clone().requires_grad_() for tensor in (hidden, head)] for _ in range(2)
    )
    loss = averages.weighted_cross_entropy(computed[0], computed[1], labels, divisor)
    (3 * loss).backward()
    logits = expected[0][:, :-1] @ expected[1].T
    token_losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none"
    )
    plain = (token_losses / divisor[:, 1:].flatten()).sum()
    (3 * plain).backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    for fused, unfused in zip(computed, expected, strict=True):
        torch.testing.assert_close(fused.grad, unfused.grad)


def test_the_weighted_cross_entropy_of_no_labels_is_zero() -> None:
    hidden = torch.randn(1, 5, 8, requires_grad=True)
    labels = torch.full((1, 5), averages.IGNORED)
    loss = averages.weighted_cross_entropy(hidden, torch.randn(30, 8), labels, labels.abs())
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
def test_a_setting_that_would_make_the_average_wrong_is_named(setting: str, value: object) -> None:
    (line,) = refused_settings({"loss_average": "token", setting: value})
    assert line.startswith(f"{setting}: {value} ")


@pytest.mark.parametrize("value", [None, False, 1])
def test_a_parallelism_of_one_is_accepted(value: object) -> None:
    assert refused_settings({"loss_average": "token", "context_parallel_size": value}) == []


def test_all_refused_settings_are_reported_at_once() -> None:
    recipe = {"loss_average": "sequence", "cut_cross_entropy": True, "use_eaft": True}
    assert len(refused_settings(recipe)) == 2
    assert refused_settings({**recipe, "use_eaft": False, "loss_average": "token"}) == []


def test_another_version_or_a_changed_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "VERSIONS", {"torch": "0.0.1", "no-such-package": "1"})
    monkeypatch.setattr(requirements, "SOURCES", {"json:dumps": "0" * 16, "json:gone": "0" * 16})
    with pytest.raises(InputError) as error:
        requirements.check_pinned_internals()
    message = str(error.value)
    assert "torch is 2" in message
    assert "not 0.0.1" in message
    assert "no-such-package is missing, not 1" in message
    assert "json:dumps has changed" in message
    assert "json:gone has changed" in message
