"""What a key of a well-known service looks like, wherever it stands. Pure."""

import re

KEYS = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}"
    r"|\bAIza[A-Za-z0-9_-]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
