"""`longwriter report`: a page of what runs wrote and how they were scored."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "report",
        help="write a page of scores, figures and every response of one or more runs",
        description="Write one HTML page that stands alone, and its figures as SVG and PNG, from "
        "the newest results below each RUN_DIR. Several runs stand side by side.",
    )
    command.add_argument(
        "run_dirs", metavar="RUN_DIR", nargs="+", type=Path, help="lm_eval's --output_path"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html in the first RUN_DIR",
    )
    command.add_argument(
        "--no-figure-files", action="store_true", help="leave the figures to the page alone"
    )
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from longwriter_core.errors import InputError
    from longwriter_eval.report import write_report
    from longwriter_eval.runs import load_runs

    path: Path = options.output or options.run_dirs[0] / "report.html"
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {path} must name an .html file")
    folder = None if options.no_figure_files else path.with_name(f"{path.stem}_figures")
    newest, before = [], []
    for run_dir in options.run_dirs:
        run, *older = load_runs(run_dir)
        print(f"read {run.path}, {len(run.samples):,} samples")
        newest.append(run)
        before += older
    written = write_report(newest, path, figure_files=folder, judged_before=before)
    size = path.stat().st_size / 1e6
    print(f"wrote {path} ({size:.1f} MB): one page, open it in any browser")
    if folder:
        print(f"wrote its {len(written) // 2} figures as SVG and PNG to {folder}")
    return 0
