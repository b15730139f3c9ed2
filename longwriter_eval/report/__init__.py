"""`longwriter report`: one page that shows what a run wrote and how it was scored.

    write_report([load_run(Path("runs/mine"))], Path("report.html"))

The page is self-contained: it makes no network requests, runs only its own script, and holds
every response. Several runs are shown side by side, prompt by prompt.
"""

from longwriter_eval.report.page import write_report

__all__ = ["write_report"]
