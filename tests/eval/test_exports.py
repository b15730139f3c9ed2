"""The public names of longwriter_eval."""

import longwriter_eval


def test_the_exported_names_are_these() -> None:
    assert longwriter_eval.__all__ == [
        "Judge",
        "JudgeSettings",
        "__version__",
        "compare",
        "count_words",
        "length_score",
        "load_run",
        "load_runs",
        "quality_scores",
        "read_verdict",
        "score",
        "score_samples",
        "value",
        "write_report",
    ]


def test_every_exported_name_can_be_imported() -> None:
    for name in longwriter_eval.__all__:
        assert getattr(longwriter_eval, name) is not None
