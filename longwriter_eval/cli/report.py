"""`longwriter report`: one HTML page about runs."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="lm_eval's --output_path")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="default: report.html in the first RUN_DIR"
        ),
    ] = None,
    no_figure_files: Annotated[
        bool, typer.Option("--no-figure-files", help="write no SVG and PNG files of the figures")
    ] = False,
) -> int:
    """Write a page of scores, figures and responses.

    Writes one self-contained HTML page, and its figures as SVG and PNG files, from the newest
    results below each RUN_DIR. Several runs are shown side by side.
    """
    from longwriter_core.errors import InputError
    from longwriter_eval.report import write_report
    from longwriter_eval.runs import load_runs

    path = output or run_dirs[0] / "report.html"
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {path} must name an .html file")
    folder = None if no_figure_files else path.with_name(f"{path.stem}_figures")
    newest, before = [], []
    for run_dir in run_dirs:
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
