"""Making a model's text fit for counting and keeping. Pure."""

import re

# A role header names its role between two tokens; the role is not part of the answer either.
_HEADER = re.compile(r"<\|start_header_id\|>[^<]{0,40}<\|end_header_id\|>\s*")
# <|eot_id|>, <|user|>, <｜end▁of▁sentence｜> … stand for nothing else, wherever they are.
_ANYWHERE = re.compile(r"<[|｜][\w▁.-]{1,40}[|｜]>|\[gMASK\]|<sop>|<eop>")
# </s> and its like are also markup, so only those at either end of the text are taken off.
_NAMES = r"</?s>|<(?:bos|eos|pad|unk|end_of_turn|start_of_turn)>"
_RUN = re.compile(rf"(?:(?:{_NAMES})\s*)+")


def strip_special_tokens(text: str) -> str:
    """`text` without control tokens and the blanks around it; nothing else changes."""
    if "<" not in text and "[gMASK]" not in text:  # nearly always, and found out in no time
        return text.strip()
    text = _ANYWHERE.sub("", _HEADER.sub("", text)).strip()
    # a pattern with $ would try every token of a long run anew: minutes, for a broken model
    return _RUN.sub(
        lambda run: "" if run.start() == 0 or run.end() == len(text) else run[0], text
    ).strip()


def special_token_in(text: str) -> str | None:
    """The first control token in `text`, wherever it is; None where there is none."""
    found = _ANYWHERE.search(text) if "<" in text or "[" in text else None
    return found and found[0]


def encodable(text: str) -> str:
    r"""`text` with half surrogate pairs as \udxxx: no file or request can hold them as they are."""
    return text.encode("utf-8", "backslashreplace").decode()
