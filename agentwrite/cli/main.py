"""The `agentwrite` command."""

from collections.abc import Sequence

from agentwrite.cli import cache, dpo, plan, rewrite, run, select, serve, sft, stats, write
from longwriter_core.command import add_version_option, new_app, run_command

app = new_app("Write very long texts: plan first, then write step by step.")
add_version_option(app)
for _name, _module in {
    "plan": plan, "write": write, "rewrite": rewrite,
    "run": run, "select": select, "sft": sft, "dpo": dpo, "stats": stats,
    "serve": serve, "cache": cache,
}.items():  # fmt: skip
    app.command(_name)(_module.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    return run_command(app, "agentwrite", arguments)
