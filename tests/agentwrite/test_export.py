"""Exported HTML, EPUB and DOCX books open in an independent reader and contain the text."""

import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.model import WRITER, Model, by_plan, section

from agentwrite import export
from agentwrite.cli.main import main
from agentwrite.export import html_of, markdown_of, save_text
from agentwrite.writing.plan import Plan, Step
from longwriter_core.errors import InputError

STEPS = tuple(Step(n, "Mud", 400) for n in range(1, 4))
CHAPTERS = ((Step(1, "Mud & money", 800, "Chapter"), 1), (Step(2, "x" * 90, 400, "Chapter"), 3))
SECTIONS = ["The bay <b>is</b> *wide* & **deep**.", "“No.”\n“Yes.”", "The end."]
MARKDOWN = markdown_of(SECTIONS, Plan(STEPS, chapters=CHAPTERS), "Harbours & <Tides>")


def has_pandoc() -> bool:
    try:
        export._pandoc()
    except InputError:
        return False
    return True


needs_pandoc = pytest.mark.skipif(not has_pandoc(), reason="no pandoc: longwriter[books]")


def text_of(xml: str | bytes) -> str:
    return " ".join("".join(ElementTree.fromstring(xml).itertext()).split())


def test_markdown_has_the_title_and_a_heading_for_each_chapter() -> None:
    headings = [line for line in MARKDOWN.splitlines() if line.startswith("#")]
    assert headings == ["# Harbours & <Tides>", "# Chapter 1: Mud & money", "# Chapter 2"]


def test_a_section_keeps_its_own_heading() -> None:
    plan = Plan(STEPS[:1], chapters=CHAPTERS[:1])
    assert markdown_of(["## Silt\n\nMud."], plan) == "## Silt\n\nMud."


@pytest.mark.parametrize(
    ("begins", "has_heading"),
    [
        ("### Scene one", True),
        ("**Stop!**", True),
        ("**Stop!** she cried.", True),
        ("# Silt", False),
        ("## **Mud & money**", False),
        ("### Chapter One: Silt", False),
        ("**Mud & Money**", False),
        ("**第一章 淤泥**", False),
    ],
)
def test_only_a_chapter_s_own_heading_replaces_that_of_the_plan(
    begins: str, has_heading: bool
) -> None:
    text = markdown_of([f"{begins}\n\nMud."], Plan(STEPS[:1], chapters=CHAPTERS[:1]))
    assert text.startswith("# Chapter 1: Mud & money") == has_heading


@pytest.mark.parametrize(
    ("markdown", "title"),
    [
        ("# The Harbour at Night\n\nMud.", "The Harbour at Night"),
        ("# **The Harbour**\n\n## Mud\n\n## Money", "The Harbour"),
        ("# Chapter 1: The Storm\n\nMud.", "file"),
        ("# 第1章 风暴\n\n淤泥。", "file"),
        ("# The Storm\n\nMud.\n\n# The Calm\n\nMoney.", "file"),
        ("## The Storm\n\nMud.\n\n## The Calm\n\nMoney.", "file"),
        ("### Scene one\n\nMud.", "file"),
        ("Mud.\n\n# The Storm", "file"),
    ],
)
def test_the_title_is_a_whole_heading_that_is_no_chapter_s(markdown: str, title: str) -> None:
    page = export.exported(markdown, ".html", None, "file").decode()
    assert f"<title>{title}</title>" in page


@pytest.mark.parametrize("ending", ["pdf", "odt", "MOBI", "rtf"])
def test_the_ending_of_a_book_that_is_not_made_is_refused(ending: str) -> None:
    with pytest.raises(InputError, match=r"\.md, \.txt, \.html, \.epub or \.docx"):
        export.check_format(Path(f"a.{ending}"))
    for name in ("a.md", "a.txt", "vol.1", "a"):
        export.check_format(Path(name))


def test_without_title_and_chapters_markdown_is_the_text() -> None:
    assert markdown_of(SECTIONS, Plan(STEPS)) == "\n\n".join(SECTIONS)


def test_html_is_well_formed_and_shows_tags_of_the_text_as_text() -> None:
    page = html_of(f"{MARKDOWN}\n\n<script>alert(1)</script>\x00\ud800", "A <Title>")
    body = text_of(page.partition("\n")[2])
    assert "<script>alert(1)</script>" in body
    assert "The bay <b>is</b> wide & deep." in body
    assert "<em>wide</em>" in page
    assert "“No.”<br/>“Yes.”" in page
    assert "<title>A &lt;Title&gt;</title>" in page


@needs_pandoc
def test_an_epub_opens_with_title_chapters_and_text(tmp_path: Path) -> None:
    save_text(tmp_path / "a.epub", MARKDOWN, "Harbours & <Tides>")
    with zipfile.ZipFile(tmp_path / "a.epub") as book:
        assert book.testzip() is None
        assert book.read("mimetype") == b"application/epub+zip"
        assert "Harbours & <Tides>" in text_of(book.read("EPUB/content.opf"))
        pages = [name for name in book.namelist() if name.endswith(".xhtml")]
        text = " ".join(text_of(book.read(name)) for name in pages)
    for words in ("Chapter 1: Mud & money", "The bay <b>is</b> wide & deep.", "The end."):
        assert words in text


@needs_pandoc
def test_a_docx_opens_with_headings_and_text(tmp_path: Path) -> None:
    save_text(tmp_path / "a.docx", MARKDOWN, "Harbours")
    with zipfile.ZipFile(tmp_path / "a.docx") as book:
        assert book.testzip() is None
        document = book.read("word/document.xml")
    text = text_of(document)
    for words in ("Chapter 1: Mud & money", "The bay <b>is</b> wide & deep.", "The end."):
        assert words in text
    assert b'w:val="Heading1"' in document


@pytest.mark.parametrize("ending", ["html", pytest.param("epub", marks=needs_pandoc)])
def test_write_and_rewrite_make_the_format_that_the_name_asks_for(
    ending: str, tmp_path: Path
) -> None:
    out = tmp_path / f"text.{ending}"
    with Model(answer=by_plan) as server:
        given = ["write", "Write 1600 words about a harbour.", "-o", str(out), "--title", "Bay"]
        assert main([*given, "--model", WRITER, "--base-url", server.base_url]) == 0
        first = out.read_bytes()
        given = ["rewrite", str(tmp_path / "text.book"), "--sections", "2", "--note", "Sail."]
        assert main([*given, "--base-url", server.base_url]) == 0
    assert first[:2] == (b"<!" if ending == "html" else b"PK")
    assert out.read_bytes()[:2] == first[:2]
    if ending == "html":
        assert section(4) in out.read_text(encoding="utf-8")
        assert "<title>Bay</title>" in out.read_text(encoding="utf-8")


def test_without_pandoc_there_is_one_clear_error_before_anything_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setitem(__import__("sys").modules, "pypandoc", None)
    with Model(answer=by_plan) as server:
        given = ["write", "Write 1600 words.", "-o", str(tmp_path / "text.epub")]
        assert main([*given, "--model", WRITER, "--base-url", server.base_url]) == 2
        assert server.prompts == []
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "pip install 'longwriter[books]'" in line
