"""The `longwriter` command."""

from collections.abc import Sequence

from longwriter_core.command import add_plugins, add_version_option, new_app, run_command
from longwriter_eval.cli import (
    annotate,
    assets,
    calibrate,
    compare,
    demo,
    judge_exam,
    judges,
    leaderboard,
    report,
    score,
    submit,
    verify,
)

app = new_app("Measure very long writing with language models.")
add_version_option(app)
for _name, _module in {
    "assets": assets, "demo": demo, "judges": judges,
    "judge-exam": judge_exam, "calibrate": calibrate, "score": score,
    "report": report, "compare": compare, "annotate": annotate, "submit": submit, "verify": verify,
    "leaderboard": leaderboard,
}.items():  # fmt: skip
    app.command(_name)(_module.command)
# Other packages add subcommands, such as `recipes`, through this group of entry points.
add_plugins(app, "longwriter.commands")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    return run_command(app, "longwriter", arguments)
