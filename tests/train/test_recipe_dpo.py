"""Chunked DPO computes the same loss, gradients and metrics as TRL."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import make_tiny_llama

from longwriter_core.errors import InputError
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
    log_probs = dpo.TokenLogProbs.apply(hidden, weight, tokens)
    torch.testing.assert_close(log_probs, wanted)
    upstream = torch.randn(17)
    expected = torch.autograd.grad(wanted, (hidden, weight), upstream)
    given = torch.autograd.grad(log_probs, (hidden, weight), upstream)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden = torch.randn(3, 8, requires_grad=True)
    weight = torch.randn(23, 8)
    dpo.TokenLogProbs.apply(hidden, weight, torch.tensor([1, 2, 3])).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


# The chosen answer is the longer one, then the rejected one.
PAIRS = [
    {"prompt": "Write.", "chosen": "The sea is calm.<|eot_id|>", "rejected": "No<|eot_id|>"},
    {"prompt": "Go on, please.", "chosen": "Yes<|eot_id|>", "rejected": "海很平静<|eot_id|>"},
]


# Settings of the adapter and of DPO. Without an adapter, a separate reference model is used.
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "full fine-tuning": (None, {}),
    "weighted loss": (None, {"loss_type": ["sigmoid"], "loss_weights": [0.3]}),
    "mean per token": (None, {"loss_type": ["sigmoid_norm"]}),
    "SFT term": (None, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
    "less weight beyond the shared length": (None, {"ld_alpha": 0.4}),
    "all of them, LoRA": (
        {},
        {
            "loss_type": ["sft", "sigmoid_norm", "sigmoid"],
            "loss_weights": [0.2, 0.5, 2.0],
            "ld_alpha": 0.0,
        },
    ),
    "LoRA": ({}, {}),
    "LoRA that saves lm_head": ({"modules_to_save": ["lm_head"]}, {}),
}


def make_trainer(kind: Any, path: Path, adapter: dict[str, Any] | None, **settings: Any) -> Any:
    """Return a DPO trainer for the tiny Llama at `path`, with PAIRS as its data."""
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lora = None
    if adapter is not None:
        lora = LoraConfig(**{"r": 4, "target_modules": "all-linear", **adapter})
    torch.manual_seed(0)  # an adapter starts from random weights
    return kind(
        AutoModelForCausalLM.from_pretrained(path),
        AutoModelForCausalLM.from_pretrained(path) if lora is None else None,
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
            **settings,
        ),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(path),
        peft_config=lora,
    )


@pytest.fixture(scope="module", params=CASES)
def trainers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """axolotl's TRL trainer and ChunkedDPOTrainer on the same model, reference and pairs."""
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer

    path = make_tiny_llama(tmp_path_factory.mktemp("model"))
    adapter, settings = CASES[request.param]
    trainers = {}
    for kind in (AxolotlDPOTrainer, dpo.ChunkedDPOTrainer):
        trainer = make_trainer(kind, path, adapter, **settings)
        trained = [weights for weights in trainer.model.parameters() if weights.requires_grad]
        with torch.no_grad():  # an untrained policy equals its reference, which would hide errors
            for number, weights in enumerate(trained):
                torch.manual_seed(number)
                weights += 0.05 * torch.randn_like(weights)
        trainers[kind.__name__] = trainer
    return trainers


def test_loss_gradient_and_metrics_equal_trls(trainers: dict[str, Any]) -> None:
    trl, chunked = trainers.values()
    batch = chunked.data_collator(list(chunked.train_dataset))
    losses, gradients, metrics = [], [], []
    for trainer in (trl, chunked):
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        losses.append(loss.item())
        trained = [weights for weights in trainer.model.parameters() if weights.requires_grad]
        gradients.append(torch.cat([weights.grad.flatten() for weights in trained]))
        metrics.append({key: value[-1] for key, value in trainer._metrics["train"].items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[1] != pytest.approx(math.log(2), rel=1e-3)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    for name, value in metrics[1].items():
        assert value == pytest.approx(metrics[0][name], rel=1e-4), name


def test_the_model_returns_logits_again_afterwards(trainers: dict[str, Any]) -> None:
    model = trainers["ChunkedDPOTrainer"].model
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, model.config.vocab_size)


def test_an_unsupported_loss_is_refused(tmp_path: Path) -> None:
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig

    args = AxolotlDPOConfig(output_dir=str(tmp_path), loss_type=["hinge"], use_cpu=True, bf16=False)
    with pytest.raises(InputError, match=r"loss_type: hinge \(must be one of sigmoid, sigmo"):
        dpo.ChunkedDPOTrainer(args=args)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_an_ld_alpha_outside_its_range_is_refused(tmp_path: Path, alpha: float) -> None:
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig

    args = AxolotlDPOConfig(output_dir=str(tmp_path), ld_alpha=alpha, use_cpu=True, bf16=False)
    with pytest.raises(InputError, match=rf"ld_alpha: {alpha} \(must be from 0 to 1\)"):
        dpo.ChunkedDPOTrainer(args=args)


def test_lora_on_the_head_is_refused(tmp_path: Path) -> None:
    path = make_tiny_llama(tmp_path)
    adapter = {"target_modules": ["q_proj", "lm_head"]}
    with pytest.raises(InputError, match=r"not a peft\.\S+Linear: remove lm_head from lora_target"):
        make_trainer(dpo.ChunkedDPOTrainer, path, adapter)


def test_a_model_that_transforms_its_logits_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_llama(tmp_path))
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(InputError, match=r"does not compute final_logit_softcapping: 30\.0"):
        dpo.check_head(model)


def test_the_auxiliary_loss_of_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig

    path = make_tiny_llama(tmp_path)
    config = MixtralConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(path)), hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, num_local_experts=2,
        output_router_logits=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    with pytest.raises(InputError, match="the auxiliary loss of a mixture of experts"):
        make_trainer(dpo.ChunkedDPOTrainer, path, None)


def test_nan_weights_are_named(tmp_path: Path) -> None:
    trainer = make_trainer(dpo.ChunkedDPOTrainer, make_tiny_llama(tmp_path), None)
    with torch.no_grad():
        trainer.model.model.norm.weight[0] = torch.nan
    batch = trainer.data_collator(list(trainer.train_dataset))
    with pytest.raises(InputError, match=r"is nan, because \S*model\.norm\.weight holds NaN"):
        trainer.compute_loss(trainer.model, dict(batch))
