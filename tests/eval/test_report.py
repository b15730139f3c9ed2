"""A report's metadata, the values that it hides, and its files."""

import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import Answer, Log, answers, words

from longwriter_core.text.length import count_words
from longwriter_eval.cli.main import main
from longwriter_eval.pages import PALETTE, json_for_script, label
from longwriter_eval.report import figures, metadata, write_report
from longwriter_eval.report.responses import word_marks
from longwriter_eval.runs import Run
from longwriter_eval.stats.inference import Interval

LOG = Log(answers(4, lambda n: Answer(words(100 + n), (n + 1, n + 2))))


def _scored(run: Run) -> metadata.ScoredRun:
    return metadata.score_runs([run])[0]


def test_the_command_writes_the_page_and_figures_and_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = LOG.write(tmp_path / "mine")
    assert main(["report", str(run)]) == 0
    page, folder = run / "report.html", run / "report_figures"
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].startswith(f"wrote {page} (0.")
    assert printed[-1] == f"wrote its 4 figures as SVG and PNG to {folder}"
    names = {path.stem for path in folder.iterdir()}
    assert names == {"length", "buckets", "dimensions", "diagnostics"}
    for name in names:
        svg = ET.parse(folder / f"{name}.svg").getroot()
        assert svg.tag.endswith("svg")
        assert any(each.text for each in svg.iter() if each.tag.endswith("title"))
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_output_is_deterministic(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    for name in ("a", "b"):
        write_report([run], tmp_path / f"{name}.html", figure_files=tmp_path / name)
    files = ["length.svg", "length.png", "diagnostics.svg"]
    pairs = [(tmp_path / "a.html", tmp_path / "b.html")]
    pairs += [(tmp_path / "a" / name, tmp_path / "b" / name) for name in files]
    for a, b in pairs:
        assert a.read_bytes() == b.read_bytes()


def test_a_report_does_not_need_the_run_folder(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine")
    assert write_report([run], tmp_path / "page.html") == [tmp_path / "page.html"]
    assert "mine" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_table_of_few_prompts_says_which_failures_it_can_miss(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (note,) = re.findall(r"With (\d+) prompts, a failure that strikes up to (\d+)%", page)
    assert int(note[1]) == round(100 * (1 - 0.05 ** (1 / int(note[0]))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no such folder"),
        (["mine", "-o", "page.pdf"], "must name an .html file"),
        (["mine", "-o", "mine"], "must name an .html file"),
    ],
    ids=["no-such-run", "not-html", "a-folder"],
)
def test_bad_input_is_a_one_line_error(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    LOG.write(tmp_path / "mine")
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_page_contains_no_key_password_or_local_path(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "canary-folder")
    run.results["model_name"] = "/home/canary-home/models/tiny"
    run.results["config"]["model_args"] = {
        "model": "/home/canary-home/models/tiny",
        "api_key": "canary-key",
        "hf_token": "canary-token",
        "headers": {"Authorization": "canary-header"},
        "extra_body": {"api_key": "canary-nested", "adapters": ["/home/canary-home/adapter"]},
        "pwd": "canary-pwd",
        "base_url": "https://user:canary-password@host.example/v1?key=canary-query",
        "tokenizer": "my-tokenizer",
        "max_length": 40960,
        "bearer": f"Bearer sk-canary-{'0' * 30}",
        "peft": "'/home/canary/adapter'",
        "user_agent": "see C:\\Users\\canary\\agent and ~/canary/it",
    }
    run.results["config"]["model_revision"] = "/home/canary/main"
    run.results["system_instruction"] = f"Write. hf_canary{'0' * 30} /srv/canary/x, and/or /think"
    judge = run.record("longwrite_demo")["judge"]
    judge["model"] = judge["prompt"] = "/home/canary/of-mine"
    run.results["config"]["gen_kwargs"] = "max_gen_toks=500,secret=canary-kwarg"
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "canary" not in page
    for kept in (
        "model=tiny",
        "tokenizer=my-tokenizer",
        "max_length=40960",
        "adapters: [adapter]",
        "base_url=https://host.example/v1",
        "max_gen_toks=500",
        "see agent and it",
        "x, and/or /think",
        "of-mine",
    ):
        assert kept in page


def _mixed(text: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(text.split("|")), max_size=2000).map("".join)


@settings(deadline=None)
@given(_mixed("a |tea. |don't |字|字a|1|é |\n|🦊 |x"))
def test_word_marks_follow_every_500_words(text: str) -> None:
    marks = word_marks(text)
    assert [number for number, _ in marks] == [
        500 * n for n in range(1, (max(1, count_words(text)) - 1) // 500 + 1)
    ]
    assert [count_words(text[:start]) for _, start in marks] == [number for number, _ in marks]


@given(st.text())
def test_no_text_can_end_the_script_element_that_holds_it(text: str) -> None:
    script = json_for_script({text: [text]})
    assert not re.search(r"[<>&\u2028\u2029]", script)
    assert script.isascii()


def test_labels_are_one_short_line_without_hidden_characters() -> None:
    assert label("a\u202eb\x00c\nd\u2028e") == "a�b�c�d�e"
    assert len(label("x" * 10_000)) <= 120


def _contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_have_enough_contrast_in_both_themes(theme: int) -> None:
    colours = {name: values[theme] for name, values in PALETTE.items()}
    for background in ("page", "panel"):
        for text in ("ink", "muted", "accent", "warning"):
            assert _contrast(colours[text], colours[background]) >= 4.5
        for name in colours:
            if name.startswith(("run-", "score-")):
                assert _contrast(colours[name], colours[background]) >= 3
    assert _contrast(colours["ink"], colours["highlight"]) >= 7


def test_runs_are_named_by_model_and_if_ambiguous_by_judge_or_number(
    tmp_path: Path,
) -> None:
    a, b = LOG.load(tmp_path / "1" / "glm"), LOG.load(tmp_path / "2" / "llama")
    same = LOG.load(tmp_path / "3" / "glm")
    other = LOG.change(judge="other-judge").load(tmp_path / "4" / "glm")

    def names(*runs: Run) -> list[str]:
        return [scored.name for scored in metadata.score_runs(runs)]

    assert names(a, b) == ["glm", "llama"]
    assert names(a, other) == ["glm, judge gpt-judge", "glm, judge other-judge"]
    assert names(a, same) == ["glm (1)", "glm (2)"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judge": "other-judge"}, "judge: gpt-judge vs. other-judge"),
        ({"judge_prompt": "q" * 64}, "judge prompt: pppppppppppp vs. qqqqqqqqqqqq"),
        ({"data": "e" * 64}, "data: dddddddddddd vs. eeeeeeeeeeee"),
    ],
    ids=["judge", "judge-prompt", "data"],
)
def test_incomparable_runs_get_a_warning(change: dict[str, str], said: str, tmp_path: Path) -> None:
    runs = [LOG.load(tmp_path / "a"), LOG.change(**change).load(tmp_path / "b")]
    (warning,) = metadata.warnings(metadata.score_runs(runs))
    assert "a and b are not comparable" in warning
    assert said in warning


def test_comparable_complete_runs_get_no_warning(tmp_path: Path) -> None:
    runs = [LOG.load(tmp_path / "a"), LOG.load(tmp_path / "b")]
    assert metadata.warnings(metadata.score_runs(runs)) == []


def test_a_run_with_a_limit_gets_a_warning(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "a")
    run.results["config"]["limit"] = 5.0
    (warning,) = metadata.warnings([_scored(run)])
    assert "--limit 5," in warning


def test_judging_counts_tokens_cost_and_spread(tmp_path: Path) -> None:
    run = Log(answers(2, lambda _: Answer("Tea.", (1, 3)))).load(tmp_path / "a")
    for sample in run.samples:
        for verdict in sample.row["doc"]["judgement"]["verdicts"]:
            verdict |= {"prompt_tokens": 1_000_000, "completion_tokens": 100_000, "asks": 2}
            verdict["model"] = "gpt-4o-2024-05-13"  # 5 and 15 dollars a million
    judging = dict(metadata.judging(_scored(run)))
    assert judging["Prompt tokens"] == "4,000,000, excluding 4 unusable replies"
    assert judging["Cost at list prices"] == "$26.00, excluding 4 unusable replies"
    assert judging["Model that answered"] == "gpt-4o-2024-05-13 (4)"
    spread = next(value for name, value in judging.items() if "standard deviation" in name)
    assert spread == "35.4 (largest 35.4)"  # the standard deviation of 0 and 50


def test_the_cost_of_a_judge_without_a_known_price_is_unknown(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "a")
    assert dict(metadata.judging(_scored(run)))["Cost at list prices"] == "unknown"


def test_older_results_by_another_judge_are_included_in_the_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    LOG.change(judge="first-judge").write(folder)
    LOG.change(judge="second-judge").write(folder)
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 repeats of second-judge" in page
    assert re.search("(first-judge and second|second-judge and first)-judge", page)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["m", "zai-org/glm-4-9b-chat-hf", "a-very-long-name-" * 7])
def test_the_legend_of_several_runs_fits_into_the_figure(name: str) -> None:
    runs = [f"{number}-{name}" for number in range(3)]
    rows = [("all prompts", [Interval(50.0, 40.0, 60.0, 9)] * 3)]
    drawn = figures.dot_plot("buckets", "Scores", "", [("score", rows)], runs)
    (legend,) = drawn.canvas.legends
    drawn.png()
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.canvas.bbox.x1
    assert box.y1 <= drawn.canvas.bbox.y1


def _ruler(text: str = "") -> Log:
    def answer(number: int) -> Answer:
        return Answer(text if number else "", None, required=(1000, 5000)[number % 2])

    return Log(answers(4, answer, "longwrite_ruler"), task="longwrite_ruler_01000")


def test_runs_that_share_no_benchmark_can_be_reported_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = LOG.write(tmp_path / "without")
    with_ruler = LOG.write(tmp_path / "with", _ruler(words(900)))
    only_ruler = _ruler(words(700)).write(tmp_path / "only")
    runs = [str(without), str(with_ruler), str(only_ruler)]
    for number, selected in enumerate((runs[:2], runs[1::-1], runs[::2], runs)):
        page = tmp_path / f"{number}.html"
        assert main(["report", *selected, "-o", str(page)]) == 0, capsys.readouterr().err
        svg = (tmp_path / f"{number}_figures" / "ruler.svg").read_text(encoding="utf-8")
        for name in selected:
            assert Path(name).name in svg  # every run is in the legend, drawn or not


def test_empty_responses_are_drawn_as_crosses_below_all_others(tmp_path: Path) -> None:
    lengths = (0, 3, 300)
    run = Log(answers(3, lambda n: Answer(words(lengths[n]) if n else "", None))).load(tmp_path)
    (figure, *_) = figures.draw_figures([_scored(run)])
    (axes,) = figure.canvas.axes
    marks: dict[str, Any] = {
        str(mark.get_label()): np.asarray(mark.get_offsets()) for mark in axes.collections
    }
    ((_, bottom),) = marks.pop("empty")
    assert bottom == axes.get_ylim()[0]
    heights = sorted(float(y) for offsets in marks.values() for _, y in offsets)
    assert heights == [3, 300]  # short responses are drawn where they belong
    assert bottom < heights[0]


def test_a_ruler_run_of_only_empty_responses_is_drawn(tmp_path: Path) -> None:
    run = _ruler().load(tmp_path)
    names = [figure.name for figure in figures.draw_figures([_scored(run)])]
    assert names == ["ruler", "diagnostics"]


def test_several_runs_share_one_scatter_and_benchmarks_stand_apart(tmp_path: Path) -> None:
    demo = answers(4, lambda n: Answer(words(100 + n), None))
    paper = answers(4, lambda n: Answer(words(90 + n), None), "longbench_write")
    logs = [Log(demo), Log(paper, task="longbench_write")]
    runs = metadata.score_runs([logs[0].load(tmp_path / str(n), logs[1]) for n in range(3)])
    drawn = {figure.name: figure for figure in figures.draw_figures(runs)}
    assert {"length-longbench_write", "length-longwrite_demo"} <= set(drawn)
    for name in ("length-longbench_write", "length-longwrite_demo"):
        assert len(drawn[name].canvas.axes) == 3  # a panel for each run
        assert len(drawn[name].rows) == 3 * 4
    assert len(drawn["diagnostics"].canvas.axes) == 2  # a panel for each benchmark


def test_dots_of_equal_length_do_not_hide_each_other(tmp_path: Path) -> None:
    run = Log(answers(5, lambda _: Answer(words(100), None))).load(tmp_path)
    (figure, *_) = figures.draw_figures([_scored(run)])
    (axes,) = figure.canvas.axes
    places = np.concatenate([np.asarray(mark.get_offsets()) for mark in axes.collections])
    assert len({round(float(x), 3) for x, _ in places}) == 5
    assert abs(float(np.log10(places[:, 0] / 100).max())) < 0.1  # close to the required length


def test_the_ruler_names_every_required_length_and_has_intervals(tmp_path: Path) -> None:
    lengths = (1000, 2000, 5000, 10_000, 20_000, 30_000)

    def answer(number: int) -> Answer:
        return Answer(words(500 + number), None, required=lengths[number % 6])

    asked = {  # four instructions, each at six lengths
        id: replace(each, prompt=f"Write of {'abcd'[number // 6]} in {each.required} words.")
        for number, (id, each) in enumerate(answers(24, answer, "longwrite_ruler").items())
    }
    log = Log(asked, task="longwrite_ruler_01000")
    figure = next(f for f in figures.draw_figures([_scored(log.load(tmp_path))]))
    (axes,) = figure.canvas.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "1k", "2k", "5k", "10k", "20k", "30k",
    ]  # fmt: skip
    assert all(" to " in row[3] for row in figure.rows)


def test_tables_of_figures_contain_no_mathematics(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    drawn = figures.draw_figures([_scored(run)])
    assert not any("$" in cell or "S_" in cell for f in drawn for row in f.rows for cell in row)
