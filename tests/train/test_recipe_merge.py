"""After LoRA, the merged model has the recipe's template, end tokens and context length."""

import json
from pathlib import Path

import pytest
import yaml
from support.tiny_models import make_tiny_glm

from longwriter_train import recipes

pytestmark = pytest.mark.axolotl

LORA = "glm4-9b/sft_1gpu_lora"


def test_a_merged_model_has_the_recipes_template_end_tokens_and_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from axolotl.cli.merge_lora import do_cli
    from axolotl.integrations.base import PluginManager
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = make_tiny_glm(tmp_path / "base")
    (base / "chat_template.jinja").unlink()  # as in a base model
    for name in ("config.json", "generation_config.json"):
        values = json.loads((base / name).read_text())
        values["eos_token_id"] = values["eos_token_id"][0]  # <|endoftext|> alone
        (base / name).write_text(json.dumps(values), encoding="utf-8")
    big = recipes.load(recipes.folder() / f"{LORA}.yaml")
    recipe = recipes.load(recipes.folder() / "tiny/glm_sft.yaml") | {
        key: big[key] for key in big if key in ("adapter", "merge_method") or key[:5] == "lora_"
    }
    recipe |= {"base_model": str(base), "output_dir": str(tmp_path / "run")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), adapter)
    model.save_pretrained(str(tmp_path / "run"))

    monkeypatch.chdir(recipes.folder().parent)
    monkeypatch.setattr("sys.argv", ["axolotl"])
    PluginManager.get_instance().plugins.clear()
    do_cli(str(tmp_path / "recipe.yaml"))

    merged = tmp_path / "run" / "merged"
    config = json.loads((merged / "config.json").read_text())
    assert (
        config["max_position_embeddings"]
        == recipe["overrides_of_model_config"]["max_position_embeddings"]
    )
    assert config["rope_parameters"]["rope_theta"] == 5_000_000
    tokenizer = AutoTokenizer.from_pretrained(merged)
    template = Path(recipe["chat_template_jinja"]).read_text(encoding="utf-8")
    assert tokenizer.chat_template.strip() == template.strip()
    assert tokenizer.eos_token == "<|user|>"
    generation = json.loads((merged / "generation_config.json").read_text())
    assert tokenizer.eos_token_id in generation["eos_token_id"]
