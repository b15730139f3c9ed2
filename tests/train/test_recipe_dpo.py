"""DPO without a pair's logits computes what TRL computes with them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import make_tiny_llama

from longwriter_train import dpo

pytestmark = pytest.mark.axolotl


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpo, "CHUNK", 5)


def test_log_probabilities_and_their_gradients() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(17, 8, requires_grad=True)
    weight = torch.randn(23, 8, requires_grad=True)
    tokens = torch.randint(23, (17,))
    wanted = (hidden @ weight.t()).log_softmax(-1)[torch.arange(17), tokens]
    found = dpo.TokenLogProbs.apply(hidden, weight, tokens)
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn(17)
    expected = torch.autograd.grad(wanted, (hidden, weight), upstream)
    given = torch.autograd.grad(found, (hidden, weight), upstream)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden = torch.randn(3, 8, requires_grad=True)
    weight = torch.randn(23, 8)
    dpo.TokenLogProbs.apply(hidden, weight, torch.tensor([1, 2, 3])).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


PAIRS = [
    {"prompt": "Write.", "chosen": "The sea is calm.<|eot_id|>", "rejected": "No<|eot_id|>"},
    {"prompt": "Go on, please.", "chosen": "Yes<|eot_id|>", "rejected": "海很平静<|eot_id|>"},
]


@pytest.fixture(scope="module", params=["full", "lora"])
def trainers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """TRL's trainer as axolotl uses it, and ours, on the same model, reference and pairs.

    With LoRA the reference is the model without its adapter.
    """
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = make_tiny_llama(tmp_path_factory.mktemp("model"))
    lora = request.param == "lora"
    made = {}
    for kind in (AxolotlDPOTrainer, dpo.ChunkedDPOTrainer):
        torch.manual_seed(0)  # an adapter begins at random
        model = AutoModelForCausalLM.from_pretrained(path)
        reference = None if lora else AutoModelForCausalLM.from_pretrained(path)
        trainer = kind(
            model,
            reference,
            args=AxolotlDPOConfig(
                output_dir=str(path / "out"),
                beta=0.3,
                max_length=64,
                report_to=[],
                per_device_train_batch_size=2,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list(PAIRS),
            processing_class=AutoTokenizer.from_pretrained(path),
            peft_config=LoraConfig(r=4, target_modules="all-linear") if lora else None,
        )
        trained = [each for each in trainer.model.parameters() if each.requires_grad]
        with torch.no_grad():  # an untrained policy equals its reference, and hides mistakes
            for number, weights in enumerate(trained):
                torch.manual_seed(number)
                weights += 0.05 * torch.randn_like(weights)
        made[kind.__name__] = trainer
    return made


def test_loss_gradient_and_metrics_are_trls(trainers: dict[str, Any]) -> None:
    theirs, ours = trainers.values()
    batch = ours.data_collator(list(ours.train_dataset))
    losses, gradients, metrics = [], [], []
    for trainer in (theirs, ours):
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        losses.append(loss.item())
        trained = [each for each in trainer.model.parameters() if each.requires_grad]
        gradients.append(torch.cat([each.grad.flatten() for each in trained]))
        metrics.append({key: value[-1] for key, value in trainer._metrics["train"].items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[1] != pytest.approx(math.log(2), rel=1e-3)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    for name, value in metrics[1].items():
        assert value == pytest.approx(metrics[0][name], rel=1e-4), name


def test_the_heads_own_forward_is_back_afterwards(trainers: dict[str, Any]) -> None:
    model = trainers["ChunkedDPOTrainer"].model
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, model.config.vocab_size)


def test_a_loss_that_is_not_computed_is_refused(tmp_path: Path) -> None:
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig

    args = AxolotlDPOConfig(output_dir=str(tmp_path), loss_type=["hinge"], use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=r"loss_type: \['hinge'\] \(must be \['sigmoid'\]\)"):
        dpo.ChunkedDPOTrainer(args=args)
