"""`longwriter recipes`: list, show, copy and check, with one clear error for each mistake."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from longwriter_core.errors import InputError
from longwriter_eval.cli.main import main
from longwriter_train import recipes

pytestmark = pytest.mark.axolotl

ROOT = Path(__file__).parents[2]
NAMES = recipes.names()
RECIPES = {name: recipes.load(recipes.folder() / f"{name}.yaml") for name in NAMES}


def test_ls_show_and_cp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "ls"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == NAMES
    assert main(["recipes", "show", "glm4-9b/sft"]) == 0
    assert capsys.readouterr().out == recipes.read("glm4-9b/sft")

    assert main(["recipes", "cp", "glm4-9b/sft"]) == 0
    assert "wrote recipes/glm4-9b/sft.yaml" in capsys.readouterr().out
    assert Path("recipes/glm4-9b/sft.yaml").read_text(encoding="utf-8") == recipes.read(
        "glm4-9b/sft"
    )
    assert main(["recipes", "cp", "recipes/glm4-9b/dpo.yaml", "mine"]) == 0
    copied = recipes.load(Path("mine/glm4-9b/dpo.yaml"))
    for key in ("chat_template_jinja", "deepspeed"):
        assert copied[key].startswith("mine/")
        assert Path(copied[key]).is_file()


def test_the_recipe_at_the_top_of_the_directory_is_llamas_sft() -> None:
    file, text = recipes.for_directory("llama3.1-8b/sft")
    assert (recipes.folder() / file).read_text(encoding="utf-8") == text
    assert recipes.load(recipes.folder() / file) == RECIPES["llama3.1-8b/sft"]
    assert "# Launch: axolotl train recipes/\n" in text


def test_cp_puts_the_first_recipe_at_the_top_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from axolotl.cli.config import choose_config

    monkeypatch.chdir(tmp_path)
    for name in ("glm4-9b/dpo", "glm4-9b/dpo", "glm4-9b/sft", "llama3.1-8b/sft"):
        recipes.copy(name, Path("mine"))
    assert choose_config(Path("mine")) == "mine/dpo.yml"
    assert recipes.load(Path("mine/dpo.yml")) == recipes.load(Path("mine/glm4-9b/dpo.yaml"))
    assert "# Launch: axolotl train mine/\n" in Path("mine/dpo.yml").read_text(encoding="utf-8")


def test_cp_never_overwrites_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipes.copy("tiny/llama_sft", Path("mine"))
    recipes.copy("tiny/llama_sft", Path("mine"))  # copying identical files again is allowed
    Path("mine/tiny/llama_sft.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert main(["recipes", "cp", "tiny/llama_sft", "mine"]) == 2
    assert "exists and differs" in capsys.readouterr().err
    assert Path("mine/tiny/llama_sft.yaml").read_text(encoding="utf-8") == "seed: 1\n"


def test_a_file_in_place_of_the_folder_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "mine.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert main(["recipes", "cp", "tiny/llama_sft", str(file)]) == 2
    assert "mine.yaml is a file: name a folder" in capsys.readouterr().err


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="did you mean glm4-9b/sft_1gpu"):
        recipes.read("glm4-9b/sft_1gpus")


@pytest.mark.parametrize("text", ["a: [", "- a\n", ""], ids=["no YAML", "a list", "empty"])
def test_a_file_that_is_not_a_recipe_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"recipe\.yaml is not"):
        recipes.load(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"datasets": "data.jsonl"}, "datasets is not a list of entries"),
        ({"datasets": [{"type": "longwriter_train.chat"}]}, "entry 1 has no `path`"),
        ({"plugins": ["longwriter_train.LosPlugin"]}, "LosPlugin cannot be loaded"),
        ({"plugins": ["longwriter_trian.LossPlugin"]}, "longwriter_trian.LossPlugin cannot be"),
        ({"plugins": "longwriter_train.LossPlugin"}, "is not a list"),
        (
            {"datasets": [{**RECIPES["tiny/glm_sft"]["datasets"][0], "roles_to_train": ["user"]}]},
            "does not read datasets.0.roles_to_train",
        ),
        ({"train_on_inputs": True}, "does not read train_on_inputs"),
        ({"chat_template_jinja": "mine/glm4.jinja"}, "mine/glm4.jinja does not exist"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_an_invalid_recipe_gives_a_one_line_error(
    changed: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**RECIPES["tiny/glm_sft"], **changed}), encoding="utf-8")
    assert main(["recipes", "check", str(path)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["LosPlugin", "nowhere.LossPlugin"])
def test_training_does_not_start_without_a_plugin_that_the_recipe_names(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    from longwriter_train.checks import ChecksPlugin

    path = tmp_path / "wrong.yaml"
    plugins = ["longwriter_train.checks.ChecksPlugin", f"longwriter_train.{name}"]
    path.write_text(yaml.safe_dump({"plugins": plugins}), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        ChecksPlugin().register({"axolotl_config_path": str(path)})
    assert ended.value.code == 2
    assert f"{name} cannot be loaded" in capsys.readouterr().err


def test_check_lists_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.chdir(ROOT)
    assert main(["recipes", "check", "recipes/tiny/glm_sft.yaml"]) == 0
    verdict, *details = capsys.readouterr().out.splitlines()
    assert verdict.startswith("recipes/tiny/glm_sft.yaml is ready to train")
    assert "recipes/tiny/sft.jsonl: 16 rows, all valid" in details
    recipe: dict[str, Any] = {**RECIPES["tiny/glm_sft"], "datasets": [{"path": "none.jsonl"}]}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["recipes", "check", str(tmp_path / "wrong.yaml")]) == 2
    assert "cannot read the training data none.jsonl" in capsys.readouterr().err
