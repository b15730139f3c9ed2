"""Prompts: built in, official, or from a folder; rendering, and rejection of invalid ones."""

from pathlib import Path

import pytest

from agentwrite.writing.prompts import Prompts
from longwriter_core import benchmarks
from longwriter_core.errors import InputError

NAMES = {"plan", "chapters", "chapter", "write", "summarise", "rewrite"}


def test_built_in_prompts_need_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    ours = Prompts.load()
    assert (ours.name, set(ours.templates)) == ("longwriter", NAMES)
    assert all(template.isascii() for template in ours.templates.values())


@pytest.mark.usefixtures("upstream")
def test_official_prompts_are_upstreams_files_with_built_in_ones_for_the_rest() -> None:
    official, ours = Prompts.load("official"), Prompts.load()
    assert official.templates["plan"] == benchmarks.read("plan.txt")
    assert official.templates["write"] == benchmarks.read("write.txt")
    assert official.templates["chapters"] == ours.templates["chapters"]
    assert official.sha256 != ours.sha256


def test_a_folder_may_contain_only_some_prompts(tmp_path: Path) -> None:
    (tmp_path / "write.txt").write_text("$INST$|$PLAN$|$TEXT$|$STEP$\n", encoding="utf-8")
    prompts = Prompts.load(str(tmp_path))
    filled = prompts.render("write", inst="a", plan="b", text="c", step="d")
    assert filled == "a|b|c|d"
    assert prompts.templates["plan"] == Prompts.load().templates["plan"]


def test_placeholders_in_inserted_text_are_not_expanded() -> None:
    filled = Prompts.load().render("summarise", inst="$TEXT$ $STEP$", text="$INST$ \\1")
    assert "$TEXT$ $STEP$" in filled
    assert filled.endswith("$INST$ \\1")


def test_the_text_so_far_follows_the_constant_parts() -> None:
    template = Prompts.load().templates["write"]
    places = [template.index(f"${name}$") for name in ("INST", "PLAN", "TEXT", "STEP")]
    assert places == sorted(places)
    assert template.rstrip().endswith("$STEP$")


def test_all_problems_of_a_folder_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "write.txt").write_text("$INST$ $PLANS$ $TEXT$", encoding="utf-8")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError) as refused:
        Prompts.load(str(tmp_path))
    for says in ("notes.txt is not a prompt", "contain $PLAN$", "contain $STEP$", "place $PLANS$"):
        assert says in str(refused.value)


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_a_folder_without_prompts_is_refused(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"plan\.txt"):
        Prompts.load(str(tmp_path / folder))
