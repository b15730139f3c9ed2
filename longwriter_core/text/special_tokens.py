"""Handles special tokens and lone surrogates that backends leave in a model's text. Pure."""

import re

# A role header includes the role's name, which is not part of the answer.
_HEADER = re.compile(r"<\|start_header_id\|>[^<]{0,40}<\|end_header_id\|>\s*")
# <|eot_id|>, <|user|>, <｜end▁of▁sentence｜> … have no other meaning: removed everywhere.
_ANYWHERE = re.compile(r"<[|｜][\w▁.-]{1,40}[|｜]>|\[gMASK\]|<sop>|<eop>")
# </s> and similar tokens are also HTML, so they are removed only at the start and end of the text.
_HTML_LIKE = r"</?s>|<(?:bos|eos|pad|unk|end_of_turn|start_of_turn)>"
_HTML_LIKE_RUN = re.compile(rf"(?:(?:{_HTML_LIKE})\s*)+")


def strip_special_tokens(text: str) -> str:
    """`text` without special tokens and without blanks at its start and end."""
    if "<" not in text and "[gMASK]" not in text:  # the usual case, in microseconds
        return text.strip()
    text = _ANYWHERE.sub("", _HEADER.sub("", text)).strip()
    # A pattern anchored with $ would retry from every token of a long run. That takes quadratic
    # time: minutes for the output of a broken model. Matching whole runs and then checking their
    # position takes linear time.
    return _HTML_LIKE_RUN.sub(
        lambda run: "" if run.start() == 0 or run.end() == len(text) else run[0], text
    ).strip()


def special_token_in(text: str) -> str | None:
    """The first special token in `text`, or None."""
    match = _ANYWHERE.search(text) if "<" in text or "[" in text else None
    return match and match[0]


def encodable(text: str) -> str:
    r"""`text` with lone surrogates, which UTF-8 cannot hold, written as \udxxx."""
    return text.encode("utf-8", "backslashreplace").decode()
