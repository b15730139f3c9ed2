"""A text as a book: Markdown, HTML, EPUB or DOCX, by the ending of the file's name.

Markdown and HTML are made here. EPUB and DOCX are made from the HTML by pandoc, which runs as a
separate program: the one on the PATH, or that of the optional extra `longwriter[books]`.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from agentwrite.writing.plan import Plan
from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.text.language import main_language

_PANDOC_FORMATS = {".epub": "epub3", ".docx": "docx"}
# Endings that promise a format that is not made here.
_OTHER_BOOKS = (
    ".azw", ".azw3", ".djvu", ".doc", ".fb2", ".kfx", ".latex", ".mobi", ".odt", ".pages", ".pdf",
    ".pptx", ".ps", ".rst", ".rtf", ".tex", ".xhtml",
)  # fmt: skip
_PANDOC_SECONDS = 300.0
_MAX_HEADING = 80  # characters: a chapter's main point that is longer is no heading
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*")
_HEADINGS = re.compile(r"^[ \t]*(#{1,6})[ \t]+\S", re.MULTILINE)
_NUMBER = (
    r"(?:[0-9]+|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first)"
)
_CHAPTER = re.compile(rf"chapter\s+{_NUMBER}\b.*|第[0-9零一二三四五六七八九十百]+[章回].*", re.I)
_RULE = re.compile(r"(?:[*_-][ \t]*){3,}")
_STYLE = (
    "body{max-width:38em;margin:2em auto;padding:0 1em;line-height:1.6;font-family:Georgia,serif}"
    "h1,h2,h3{line-height:1.25;margin-top:2em}"
    "@media (prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


def available_formats() -> list[str]:
    """The endings of the formats that can be made here."""
    try:
        _pandoc()
    except InputError:
        return [".md", ".html"]
    return [".md", ".html", *_PANDOC_FORMATS]


def check_format(path: Path) -> None:
    """Raise InputError if the file's ending names a format that cannot be made here."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_BOOKS:
        raise InputError(
            f"{path}: {suffix} files are not made; name a .md, .txt, .html, .epub or .docx file"
        )
    if suffix in _PANDOC_FORMATS:
        _pandoc()


def markdown_of(sections: Sequence[str], plan: Plan, title: str | None = None) -> str:
    """The text in Markdown, with the headings of its plan's chapters, and `title` if there is one.

    A section that begins with a heading of level 1 or 2, or with its chapter's name as a smaller
    heading or in bold, gets none. Without a title and chapters it is the sections as they are.
    """
    language = main_language("\n".join(sections[:3]))
    chapters = {first: chapter for chapter, first in plan.chapters}
    pieces = []
    for number, section in enumerate(sections, 1):
        chapter = chapters.get(number)
        if chapter and not _begins_with_heading(section, chapter.point):
            pieces.append(f"# {_chapter_name(chapter.number, chapter.point, language)}")
        if section:
            pieces.append(section)
    if title:
        pieces.insert(0, f"# {_one_line(title)}")
    return "\n\n".join(pieces)


def save_text(path: Path, markdown: str, title: str | None = None) -> None:
    """Write `markdown` to `path` in the format that its ending names; any other is Markdown.

    Raises InputError without a pandoc that works, and OSError.
    """
    write_atomically(path, exported(markdown, path.suffix, title, path.stem))


def exported(markdown: str, suffix: str, title: str | None, name: str) -> bytes:
    """The text in the format of a file's ending, such as ".epub"; any other is Markdown.

    The title of an HTML page, EPUB or DOCX is `title`, else the heading that the text begins with
    if that is not a chapter's, else `name`. Raises InputError without a pandoc that works.
    """
    suffix = suffix.lower()
    if suffix not in (".html", ".htm", *_PANDOC_FORMATS):
        return f"{markdown}\n".encode("utf-8", "backslashreplace")
    page = html_of(markdown, title or _title(markdown) or name).encode("utf-8", "replace")
    return _converted(page, suffix) if suffix in _PANDOC_FORMATS else page


def html_of(markdown: str, title: str) -> str:
    """A self-contained page. Everything in the text is escaped: models write tags, too."""
    language = main_language(markdown)
    body: list[str] = []
    for block in re.split(r"\n\s*\n", markdown.strip()):
        paragraph: list[str] = []
        for line in block.split("\n"):
            heading = _HEADING.fullmatch(line.strip())
            if heading or _RULE.fullmatch(line.strip()):
                body += _paragraph(paragraph)
                paragraph = []
                level = len(heading[1]) if heading else 0
                body.append(f"<h{level}>{_inline(heading[2])}</h{level}>" if heading else "<hr/>")
            elif line.strip():
                paragraph.append(_inline(line.strip()))
        body += _paragraph(paragraph)
    text = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(_one_line(title))}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{text}\n</body>\n</html>\n"
    )


def _paragraph(lines: list[str]) -> list[str]:
    # lines stay lines: verse, dialogue and addresses are written that way
    return [f"<p>{'<br/>'.join(lines)}</p>"] if lines else []


def _inline(text: str) -> str:
    """Bold and emphasis; everything else is escaped. Characters that XML forbids are dropped."""
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]", "", text)
    text = escape(text)
    text = re.sub(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])", r"<em>\1</em>", text)


def _title(markdown: str) -> str | None:
    """The heading in the first line, unless it is a chapter's: one of several, or by its name."""
    heading = _HEADING.fullmatch(_first_line(markdown))
    if not heading or len(heading[1]) > 2 or _CHAPTER.fullmatch(_plain(heading[2])):
        return None
    levels = [len(marks) for marks in _HEADINGS.findall(markdown)]
    return _plain(heading[2]) if sum(level <= len(heading[1]) for level in levels) == 1 else None


def _begins_with_heading(section: str, chapter: str) -> bool:
    line = _first_line(section)
    heading = _HEADING.fullmatch(line)
    if heading and len(heading[1]) <= 2:
        return True
    name = _plain(heading[2] if heading else line)
    is_marked = bool(heading) or (line.startswith("**") and line.endswith("**"))
    is_name = name.casefold() == _one_line(chapter).casefold() or bool(_CHAPTER.fullmatch(name))
    return is_marked and is_name


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _plain(heading: str) -> str:
    """A heading without the marks of bold and emphasis."""
    return _one_line(heading.replace("*", ""))


def _chapter_name(number: int, point: str, language: str) -> str:
    name = f"第{number}章" if language == "zh" else f"Chapter {number}"
    point = _one_line(point)
    if len(point) > _MAX_HEADING:
        return name
    return f"{name} {point}" if language == "zh" else f"{name}: {point}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _pandoc() -> str:
    """The pandoc program. Raises InputError."""
    if found := shutil.which("pandoc"):
        return found
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as error:
        raise InputError(
            "EPUB and DOCX files are made by pandoc, which is not installed: pip install "
            "'longwriter[books]', or name a .md or .html file"
        ) from error


def _converted(page: bytes, suffix: str) -> bytes:
    """The page as EPUB or DOCX."""
    program = _pandoc()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, f"book{suffix}")
        command = [
            program, "--sandbox", "--from=html", f"--to={_PANDOC_FORMATS[suffix]}",
            "--toc" if suffix == ".epub" else "--standalone", f"--output={output}",
        ]  # fmt: skip
        try:
            subprocess.run(
                command, input=page, check=True, capture_output=True, timeout=_PANDOC_SECONDS
            )
        except (OSError, subprocess.SubprocessError) as error:
            why = getattr(error, "stderr", b"") or str(error).encode()
            raise InputError(f"pandoc failed: {_one_line(why.decode(errors='replace'))}") from error
        return output.read_bytes()
