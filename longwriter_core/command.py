"""Shared start and exit code of the `longwriter` and `agentwrite` commands.

Each command is a typed function: its parameters are the options, their defaults are the defaults,
and its docstring is the help. A command returns its exit code, None meaning 0:

0    done
1    the work ended, but something is missing; the command that resumes it was printed
2    bad arguments or input; one line says what, where and what to do
130  Ctrl-C

Command modules import what they need inside the function, so that `--help` stays fast.
"""

import math
import os
import shlex
import sys
from collections.abc import Sequence
from copy import copy
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import click
import typer

from longwriter_core.errors import InputError
from longwriter_core.redact import redact_argument

DISTRIBUTION = "longwriter"


def new_app(help: str, **options: Any) -> typer.Typer:
    """A command with subcommands, or a group of them within one."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **options,
    )


def add_version_option(app: typer.Typer) -> None:
    """Give `app` the option --version."""

    @app.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=_print_version,
                is_eager=True,
                help="print the version and exit",
            ),
        ] = False,
    ) -> None:
        pass


def add_plugins(app: typer.Typer, group: str) -> None:
    """Add the subcommands that installed packages declare in the entry-point group `group`.

    An entry point's name is the subcommand's name; its object is a typed function or a
    `typer.Typer`. With entry points, a package can add a subcommand to a command of another package
    that must not import it.
    """
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def run_command(app: typer.Typer, program: str, arguments: Sequence[str] | None) -> int:
    """Run the command line `arguments`, by default those in sys.argv; return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _refusing_nan(typer.main.get_command(app)).main(
            given, prog_name=program, standalone_mode=False, obj=resume_line(program, given)
        )
        if code == 130:  # typer returns this for Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of the output, such as `head`, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx:
            print(error.ctx.get_usage(), file=sys.stderr)
        print(f"{program}: error: {error.format_message()}", file=sys.stderr)
        return 2
    except (InputError, OSError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print(f"\n{program}: stopped; to resume: {resume_line(program, given)}", file=sys.stderr)
        return 130


def _refusing_nan(command: Any) -> Any:
    """Make the number options of `command` and its subcommands refuse NaN and infinity.

    NaN passes every range check, because all comparisons with NaN are false.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.types.FloatParamType):
            parameter.type = _finite(parameter.type)
    for subcommand in getattr(command, "commands", {}).values():
        _refusing_nan(subcommand)
    return command


def _finite(number: Any) -> Any:
    finite = copy(number)

    def convert(value: Any, parameter: Any, context: Any) -> Any:
        converted = number.convert(value, parameter, context)
        if not math.isfinite(converted):
            number.fail(f"{value!r} is not a finite number", parameter, context)
        return converted

    finite.convert = convert
    return finite


def resume_line(program: str, arguments: Sequence[str]) -> str:
    """The command line that resumes the work, without passwords.

    A command reads it from `click.get_current_context().obj`.
    """
    return shlex.join([program, *map(redact_argument, arguments)])


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit
