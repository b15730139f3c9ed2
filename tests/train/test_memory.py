"""The estimates of `longwriter recipes fit` match the memory that tiny models use."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longwriter_core.errors import InputError
from longwriter_eval.cli.main import main
from longwriter_train import memory, recipes

TOKENS = 512
SIZES = {
    "vocab_size": 32, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "pad_token_id": None,
    "eos_token_id": None, "bos_token_id": None,
}  # fmt: skip
CONFIGS = {
    "llama": lambda **more: transformers.LlamaConfig(**SIZES | more),
    "glm": lambda **more: transformers.GlmConfig(**SIZES | more, attention_bias=True),
    "qwen": lambda **more: transformers.Qwen3Config(**SIZES | more),
}


class Peak(TorchDispatchMode):  # type: ignore[misc]
    """A context whose `.bytes` is the peak size of the live storages created inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._now = 0
        self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            leaf.untyped_storage() for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if not isinstance(leaf, torch.Tensor):
                continue
            storage = leaf.untyped_storage()
            if storage in self._seen or any(storage._cdata == old._cdata for old in known):
                continue
            self._seen[storage] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._free, storage.nbytes())
            self.bytes = max(self.bytes, self._now)
        return result

    def _free(self, size: int) -> None:
        self._now -= size


def model_of(kind: str, **sizes: int) -> tuple[Any, memory.Shape]:
    config = CONFIGS[kind](**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.to(torch.bfloat16).train(), memory.from_config(config.to_dict())


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_parameters_are_counted_exactly(kind: str) -> None:
    model, shape = model_of(kind)
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpoints", "all activations"])
@pytest.mark.parametrize("vocabulary", [32, 2_048], ids=["layer peaks", "logits peak"])
def test_activations_and_logits_equal_the_measured_peak(
    kind: str, checkpointing: bool, vocabulary: int
) -> None:
    model, shape = model_of(kind, vocab_size=vocabulary)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": True})
        model.enable_input_require_grads()
    ids = torch.randint(0, 32, (1, TOKENS))
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()  # allocates the gradients
    model.zero_grad(set_to_none=False)
    gc.collect()
    with Peak() as peak:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    recipe = {"sequence_len": TOKENS, "bf16": True, "gradient_checkpointing": checkpointing}
    estimate = memory.estimate(recipe, shape, 1)
    assert peak.bytes == pytest.approx(estimate.activations + estimate.logits, rel=0.15)


@pytest.mark.parametrize("optimizer", ["adamw_torch_fused"])
def test_weights_gradients_and_states_equal_the_tensors(optimizer: str) -> None:
    model, shape = model_of("llama")
    adam = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 32, (1, 8))
    model(input_ids=ids, labels=ids).loss.backward()
    adam.step()
    estimate = memory.estimate({"bf16": True, "optimizer": optimizer}, shape, 1)
    assert estimate.weights == sum(weight.nbytes for weight in model.parameters())
    assert estimate.gradients == sum(weight.grad.nbytes for weight in model.parameters())
    states = [
        value for state in adam.state.values() for value in state.values() if value.numel() > 1
    ]
    assert estimate.optimizer == sum(value.nbytes for value in states)


def test_the_memory_of_the_chunked_dpo_head_matches_the_estimate() -> None:
    from longwriter_train.dpo import TokenLogProbs

    tokens, width, vocabulary = 8_192, 64, 4_096
    hidden = torch.randn(tokens, width, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(vocabulary, width, dtype=torch.bfloat16, requires_grad=True)
    with Peak() as peak:
        TokenLogProbs.apply(hidden, weight, torch.zeros(tokens, dtype=torch.long)).sum().backward()
    shape = memory.Shape(1, width, 1, width, width, vocabulary)
    recipe = {"trainer_cls": "x.ChunkedDPOTrainer", "rl": "dpo", "sequence_len": 4_096, "bf16": 1}
    estimated = memory._logits(recipe, shape, tokens, 2, trains_head=True)
    assert peak.bytes == pytest.approx(estimated, rel=0.15)


def test_lora_parameters_equal_the_ones_that_peft_trains() -> None:
    peft = pytest.importorskip("peft")
    model, shape = model_of("llama")
    config = peft.LoraConfig(r=4, target_modules="all-linear", modules_to_save=["lm_head"])
    adapted = peft.get_peft_model(model, config)
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    recipe = {"lora_r": 4, "lora_target_linear": True, "lora_modules_to_save": ["lm_head"]}
    assert sum(memory._lora_parameters(recipe, shape)) == trained


def test_zero3_divides_weights_gradients_and_states_among_the_gpus() -> None:
    recipe = recipes.settings("llama3.1-8b/sft")
    eight, sixteen = (memory.estimate(recipe, memory.LLAMA_8B, gpus) for gpus in (8, 16))
    assert eight.optimizer == 2 * sixteen.optimizer == 12 * memory.LLAMA_8B.parameters / 8
    assert eight.gradients == 2 * sixteen.gradients == 4 * memory.LLAMA_8B.parameters / 8
    assert eight.activations == sixteen.activations


def test_every_big_recipe_fits_on_the_hardware_in_its_title(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [name for name in recipes.names() if not name.startswith("tiny/")]
    assert names
    for name in names:
        gpus, size = (8, 80) if "1gpu" not in name else (1, 80 if "lora" in name else 141)
        assert f"{size} GB" in recipes.title(name)
        assert main(["recipes", "fit", name, "--gpus", str(gpus), "--memory", str(size)]) == 0, name
        assert capsys.readouterr().out.startswith("fits: ")


def test_vllm_needs_its_share_beside_the_states(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipes.settings("llama3.1-8b/grpo")
    estimate = memory.estimate(recipe, memory.LLAMA_8B, 8)
    states = estimate.weights + estimate.gradients + estimate.optimizer
    assert estimate.generation(80 * memory.GIB) == states + 0.5 * 80 * memory.GIB
    greedy = memory.estimate({**recipe, "vllm": {}}, memory.LLAMA_8B, 8)  # 0.9 of the GPU
    assert not greedy.fits(80 * memory.GIB)
    print(memory.table(estimate, 8, 80 * memory.GIB))
    assert "while vLLM generates: 5" in capsys.readouterr().out


def test_a_recipe_that_does_not_fit_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "fit", "glm4-9b/dpo_1gpu", "--memory", "80"]) == 1
    assert "GiB too much" in capsys.readouterr().out


def test_the_table_in_the_readme_matches_the_estimates() -> None:
    lines = (recipes.folder() / "README.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line.split("|") for line in lines if line.startswith("| `")}
    for name, cells in rows.items():
        if name.startswith("tiny/"):
            continue
        gpus = 1 if "1gpu" in name else 8
        recipe = recipes.settings(name)
        estimate = memory.estimate(recipe, memory.shape_of(recipe), gpus)
        peak = max(estimate.total, estimate.generation(80 * memory.GIB))
        assert cells[3].strip() == f"{peak / memory.GIB:.0f} GiB", name


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("base_model: someone/else", "someone/else are unknown"),
        ("base_model: {folder}\nadapter: qlora", "qlora is not modelled"),
        ("base_model: {folder}\ndeepspeed: nowhere.json", "nowhere.json"),
        ("base_model: {folder}\nsequence_len: many", "sequence_len"),
        ("base_model: {folder}\ntrl: {use_vllm: true, vllm_mode: colocate}", "sleep_mode"),
    ],
)
def test_what_is_not_modelled_is_refused(
    recipe: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    file = tmp_path / "mine.yaml"
    file.write_text(recipe.replace("{folder}", str(tmp_path)))
    assert main(["recipes", "fit", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_incomplete_config_is_refused() -> None:
    with pytest.raises(InputError, match="no hidden_size"):
        memory.from_config({"num_attention_heads": 2, "num_hidden_layers": 1})
