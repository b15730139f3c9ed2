"""What a report says of runs, what it keeps to itself, and the files that it writes."""

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scored import Answer, Log, answers, words

from longwriter_core.text.length import count_words
from longwriter_eval.cli.main import main
from longwriter_eval.pages import PALETTE, json_for_script, label
from longwriter_eval.report import figures, write_report
from longwriter_eval.report import metadata as facts
from longwriter_eval.report.texts import word_marks
from longwriter_eval.runs import Run
from longwriter_eval.stats.inference import Interval

LOG = Log(answers(4, lambda n: Answer(words(100 + n), (n + 1, n + 2))))


def _facts(of_run: facts.Facts) -> dict[str, str]:
    return dict(of_run)


def _scored(run: Run) -> facts.ScoredRun:
    return facts.score_runs([run])[0]


def test_the_command_writes_page_and_figures_and_says_so(
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


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    for name in ("a", "b"):
        write_report([run], tmp_path / f"{name}.html", figure_files=tmp_path / name)
    files = ["length.svg", "length.png", "diagnostics.svg"]
    pairs = [(tmp_path / "a.html", tmp_path / "b.html")]
    pairs += [(tmp_path / "a" / name, tmp_path / "b" / name) for name in files]
    for a, b in pairs:
        assert a.read_bytes() == b.read_bytes()


def test_a_report_needs_no_folder_of_its_run(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine")
    assert write_report([run], tmp_path / "page.html") == [tmp_path / "page.html"]
    assert "mine" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no such folder"),
        (["mine", "-o", "page.pdf"], "must name an .html file"),
        (["mine", "-o", "mine"], "must name an .html file"),
    ],
    ids=["no such run", "not a page", "a folder"],
)
def test_bad_input_is_one_line(
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


def test_no_key_password_or_local_path_is_in_the_page(tmp_path: Path) -> None:
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
def test_before_the_mark_of_500_words_are_500_words(text: str) -> None:
    marks = word_marks(text)
    assert [number for number, _ in marks] == [
        500 * n for n in range(1, (max(1, count_words(text)) - 1) // 500 + 1)
    ]
    assert [count_words(text[:start]) for _, start in marks] == [number for number, _ in marks]


@given(st.text())
def test_no_text_ends_the_script_that_holds_it(text: str) -> None:
    found = json_for_script({text: [text]})
    assert not re.search(r"[<>&\u2028\u2029]", found)
    assert found.isascii()


def test_a_name_is_one_short_line_that_hides_nothing() -> None:
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
def test_text_and_marks_stand_out_in_both_themes(theme: int) -> None:
    colours = {name: values[theme] for name, values in PALETTE.items()}
    for background in ("page", "panel"):
        for text in ("ink", "muted", "accent", "warning"):
            assert _contrast(colours[text], colours[background]) >= 4.5
        for name in colours:
            if name.startswith(("run-", "score-")):
                assert _contrast(colours[name], colours[background]) >= 3
    assert _contrast(colours["ink"], colours["highlight"]) >= 7


def test_runs_go_by_their_models_and_where_these_are_the_same_by_their_judges(
    tmp_path: Path,
) -> None:
    a, b = LOG.load(tmp_path / "1" / "glm"), LOG.load(tmp_path / "2" / "llama")
    same = LOG.load(tmp_path / "3" / "glm")
    other = LOG.change(judge="other-judge").load(tmp_path / "4" / "glm")

    def names(*runs: Run) -> list[str]:
        return [scored.name for scored in facts.score_runs(runs)]

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
    ids=["judge", "judge's prompt", "data"],
)
def test_runs_that_do_not_compare_are_said_not_to(
    change: dict[str, str], said: str, tmp_path: Path
) -> None:
    runs = [LOG.load(tmp_path / "a"), LOG.change(**change).load(tmp_path / "b")]
    (warning,) = facts.warnings(facts.score_runs(runs))
    assert "a and b are not comparable" in warning
    assert said in warning


def test_equal_runs_and_a_whole_one_need_no_warning(tmp_path: Path) -> None:
    runs = [LOG.load(tmp_path / "a"), LOG.load(tmp_path / "b")]
    assert facts.warnings(facts.score_runs(runs)) == []


def test_a_limited_run_is_said_to_be(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "a")
    run.results["config"]["limit"] = 5.0
    (warning,) = facts.warnings([_scored(run)])
    assert "--limit 5," in warning


def test_judging_counts_tokens_cost_and_spread(tmp_path: Path) -> None:
    run = Log(answers(2, lambda _: Answer("Tea.", (1, 3)))).load(tmp_path / "a")
    for sample in run.samples:
        for verdict in sample.row["doc"]["judgement"]["verdicts"]:
            verdict |= {"prompt_tokens": 1_000_000, "completion_tokens": 100_000, "asks": 2}
            verdict["model"] = "gpt-4o-2024-05-13"  # 5 and 15 dollars a million
    found = _facts(facts.judging(_scored(run)))
    assert found["Prompt tokens"].startswith("4,000,000, besides 4 replies")
    assert found["Cost at list prices"].startswith("$26.00, besides 4 replies")
    assert found["Answered as"] == "gpt-4o-2024-05-13 (4)"
    spread = next(value for name, value in found.items() if name.startswith("Spread"))
    assert spread == "35.4 (largest 35.4)"  # of 0 and 50


def test_a_judge_without_a_known_price_costs_nothing_made_up(tmp_path: Path) -> None:
    run = LOG.load(tmp_path / "a")
    assert _facts(facts.judging(_scored(run)))["Cost at list prices"] == "no price known"


def test_another_judge_of_the_same_responses_is_heard(
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
def test_the_legend_of_several_runs_lies_within_the_figure(name: str) -> None:
    runs = [f"{number}-{name}" for number in range(3)]
    rows = [("all prompts", [Interval(50.0, 40.0, 60.0, 9)] * 3)]
    drawn = figures.intervals("buckets", "Scores", "", [("score", rows)], runs)
    (legend,) = drawn.canvas.legends
    drawn.png()
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.canvas.bbox.x1
    assert box.y1 <= drawn.canvas.bbox.y1
