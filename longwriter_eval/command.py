"""How every command of ours starts and ends: exit codes, one clear line, and how to go on."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence

from longwriter_eval.errors import InputError


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Call the `run` of the chosen command with its options; returns the exit code.

    0 done, 1 something is missing, 2 bad input, 130 Ctrl-C. The options get `again`: the command
    line that goes on with the work.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    options.again = shlex.join([parser.prog, *map(_without_secrets, given)])
    try:
        code: int = options.run(options)
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: stopped; to go on: {options.again}", file=sys.stderr)
        return 130


def _without_secrets(argument: str) -> str:
    """An argument fit for a log: a URL's password and query must be typed again."""
    if not re.match(r"(--[\w-]+=)?https?://\S+$", argument):
        return argument
    return re.sub(r"\?.*", "?***", re.sub("//[^/?]*@", "//***@", argument))
