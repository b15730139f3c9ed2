"""The leaderboard: comparable groups, ranks, and a page without unverified claims."""

import csv
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page
from support.browser import DESK, PHONE, chromium, opened
from support.commands import command, environment
from support.submissions import deadly, hand_in, log, repacked, submitted, unpacked

from longwriter_core.text.printable import escape_unprintable
from longwriter_eval.cli.main import main
from longwriter_eval.leaderboard import entries as entries_module
from longwriter_eval.leaderboard.exports import _cell, badge
from longwriter_eval.leaderboard.rankings import rankings
from longwriter_eval.leaderboard.site import build
from longwriter_eval.published import REPORTED
from longwriter_eval.report import write_report as report
from longwriter_eval.runs import Run, load_run
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.zip_file import MAX_FILE_SIZE

ROOT = Path(__file__).parents[2]
EVIL = "<script>document.title='owned'</script>"


def _entry(file: str, **judge: Any) -> dict[str, Any]:
    mean = {"mean": 80.0, "low": 70.0, "high": 90.0, "n": 12}
    prompt_sha256 = judge.pop("prompt_sha256", "a" * 64)
    return {
        "file": file,
        "benchmark": judge.pop("benchmark", "longwrite_demo"),
        "task_version": judge.pop("task_version", 1.0),
        "judge": {
            "judges": [
                {
                    "requested": "j", "returned": "j", "endpoint": "private",
                    "temperature": 0.5, "max_tokens": 1024, "request": {}, **judge,
                }
            ],
            "repeats": 1, "prompt": "official", "prompt_sha256": prompt_sha256,
        },
        "scores": {"all": {"kind": "all", "metrics": {"overall_score": mean}}},
        "prompt_scores": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"returned": "k"}, id="judge"),
        pytest.param({"temperature": None}, id="judge-temperature"),
        pytest.param({"request": {"reasoning_effort": "low"}}, id="judge-request"),
        pytest.param({"prompt_sha256": "b" * 64}, id="judge-prompt"),
        pytest.param({"task_version": 2.0}, id="task-version"),
        pytest.param({"benchmark": "longbench_write"}, id="benchmark"),
    ],
)
def test_incomparable_submissions_are_ranked_separately(other: dict[str, Any]) -> None:
    found = rankings([_entry("a"), _entry("b", **other)])
    assert [[entry["file"] for entry in ranking.entries] for ranking in found] in (
        [["a"], ["b"]],
        [["b"], ["a"]],
    )


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Submissions of two judges, two of them invalid."""
    folder = tmp_path_factory.mktemp("board") / "submissions"
    submitted(folder, "good", grade=lambda n: 4 + n % 2, submitter=EVIL)
    submitted(folder, "bad", grade=lambda n: 1 + n % 2)
    submitted(folder / "deeper", "other", judge="another-judge")
    manifest, samples = unpacked(folder / "bad.zip")
    manifest["scores"][0]["metrics"]["overall_score"]["mean"] = 99.0
    (folder / "forged.zip").write_bytes(repacked(manifest, samples))
    (folder / f"{EVIL.replace('/', '')}.zip").write_bytes(b"nonsense")
    return folder


@pytest.fixture(scope="module")
def site(handed_in: Path) -> Path:
    site = handed_in.with_name("site")
    assert main(["leaderboard", str(handed_in), "-o", str(site)]) == 1
    return site


def test_verified_scores_are_ranked_and_the_rest_is_listed_with_reasons(site: Path) -> None:
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    by_judge = {ranking["judge"]: ranking["entries"] for ranking in data["rankings"]}
    assert [entry["model"]["id"]["value"] for entry in by_judge["gpt-judge"]] == ["good", "bad"]
    assert [entry["rank"]["all"] for entry in by_judge["gpt-judge"]] == [
        {"best": 1, "worst": 1},
        {"best": 2, "worst": 2},
    ]
    assert [entry["file"] for entry in by_judge["another-judge"]] == ["deeper/other.zip"]
    reasons = {entry["file"]: entry["reasons"] for entry in data["invalid"]}
    assert "overall_score, mean: claimed 99" in reasons["forged.zip"][0]
    assert len(reasons) == 2
    assert any("not a zip file" in reason for of in reasons.values() for reason in of)
    for entry in by_judge["gpt-judge"]:
        report = (site / entry["report"]).read_text(encoding="utf-8")
        assert entry["model"]["id"]["value"] in report


def test_reported_scores_are_listed_separately(site: Path) -> None:
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    reported = {entry["model"] for entry in data["reported_not_verified"]}
    assert reported == {entry["model"] for entry in REPORTED}
    ranked = {e["model"]["id"]["value"] for r in data["rankings"] for e in r["entries"]}
    assert not reported & ranked
    page = (site / "index.html").read_text(encoding="utf-8")
    assert page.index('id="rankings"') < page.index("Reported, not verified</h2>")
    assert page.index("Reported, not verified</h2>") < page.index("Claude 3.5 Sonnet")


def test_a_second_build_reuses_entries_and_removes_deleted_submissions(
    handed_in: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, second = tmp_path / "in", tmp_path / "site"
    shutil.copytree(site, second)
    folder.mkdir()
    for name in ("good", "bad"):
        shutil.copy(handed_in / f"{name}.zip", folder)

    def again(*_: object) -> None:
        raise AssertionError("verified a second time")

    monkeypatch.setattr(entries_module, "verify_file", again)
    assert main(["leaderboard", str(folder), "-o", str(second)]) == 0
    assert len(list((second / "submissions").iterdir())) == 2
    first = (second / "leaderboard.json").read_bytes()
    assert main(["leaderboard", str(folder), "-o", str(second)]) == 0
    assert (second / "leaderboard.json").read_bytes() == first


def _kept(folder: Path, site: Path) -> list[str]:
    """The names of the accepted submissions below `folder`."""
    build(folder, site)
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    return sorted(entry["file"] for ranking in data["rankings"] for entry in ranking["entries"])


def _edited(text: str) -> str:
    """A response with one word in twelve replaced."""
    return " ".join("changed" if n % 12 == 5 else word for n, word in enumerate(text.split(" ")))


def _git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", folder, *author, *arguments], check=True, capture_output=True)


@pytest.mark.slow
def test_copies_and_edited_copies_are_refused_and_the_original_is_kept(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in"
    honest = submitted(folder, "honest")
    _git(folder, "init", "-q")
    _git(folder, "add", "honest.zip")
    _git(folder, "commit", "-q", "-m", "honest")
    manifest, samples = unpacked(honest)
    manifest["model"]["id"]["value"] = "thief"
    (folder / "copy.zip").write_bytes(repacked(manifest, samples))  # before "honest" by name
    made = log(start="honest", grade=lambda _: 5)
    answers = {id: replace(a, text=_edited(a.text)) for id, a in made.answers.items()}
    hand_in(made.change(answers=answers).load(folder / "runs" / "edited"), folder / "edited.zip")
    _git(folder, "add", "copy.zip", "edited.zip")
    _git(folder, "commit", "-q", "-m", "copies")
    assert _kept(folder, tmp_path / "site") == ["honest.zip"]


@pytest.mark.slow
def test_a_rejudged_run_is_kept_and_linked_to_the_original(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    first = submitted(folder, "mine", submitter="me")
    manifest, samples = unpacked(first)
    manifest["model"]["dtype"] = {"value": "float16", "source": "submitter"}
    (folder / "other-dtype.zip").write_bytes(repacked(manifest, samples))
    manifest["submitter"] = "somebody else"
    (folder / "theirs.zip").write_bytes(repacked(manifest, samples))
    assert _kept(folder, tmp_path / "site") == ["mine.zip", "other-dtype.zip"]
    data = (tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8")
    assert '"same_responses_as": "mine.zip"' in data


@pytest.mark.slow
def test_independent_responses_are_not_copies(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        submitted(tmp_path / "in", name)
    assert len(_kept(tmp_path / "in", tmp_path / "site")) == 3


def test_an_undecodable_file_name_is_shown_with_escapes(handed_in: Path, tmp_path: Path) -> None:
    folder, site = tmp_path / "in", tmp_path / "site"
    folder.mkdir()
    (folder / "\udcff.zip").write_bytes(b"nonsense")
    shutil.copy(handed_in / "good.zip", folder / "\udcfe.zip")
    built = build(folder, site)
    assert built.verified == 1
    assert [entry["file"] for entry in built.invalid] == [r"\udcff.zip"]
    assert r"\udcff.zip" in (site / "index.html").read_text(encoding="utf-8")
    assert (
        escape_unprintable(r"\udcff.zip")
        != escape_unprintable("\udcff.zip")
        != escape_unprintable("\udcfe.zip")
    )
    assert escape_unprintable("a\nb.zip") == r"a\nb.zip"


def test_a_file_name_cannot_inject_a_workflow_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a\n::error::b.zip", "::error::##[error]c.zip"):
        Path(name).write_bytes(b"nonsense")
    assert main(["leaderboard", "."]) == 1
    printed = capsys.readouterr().err
    assert all(f"{letter}.zip: refused" in printed for letter in "bc")
    assert "##[" not in printed
    assert not [line for line in printed.splitlines() if line.strip().startswith("::")]


def test_an_unexpected_error_rejects_only_the_submission_that_caused_it(
    handed_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("good", "bad"):
        shutil.copy(handed_in / f"{name}.zip", folder)

    def write_report(runs: list[Run], page: Path, **options: Any) -> None:
        if runs[0].path.name == "bad.zip":
            raise ValueError("unforeseen")
        report(runs, page, **options)

    monkeypatch.setattr(entries_module, "write_report", write_report)
    built = build(folder, tmp_path / "site")
    assert built.verified == 1
    (refused,) = built.invalid
    assert refused["file"] == "bad.zip"
    assert "unforeseen" in refused["reasons"][0]


@pytest.mark.slow
def test_a_killed_worker_rejects_only_its_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "deadly", "z"):
        (folder / f"{name}.zip").write_bytes(b"nonsense")
    monkeypatch.setattr(entries_module, "_examine", deadly)
    reasons = [entry["reasons"][0] for entry in build(folder, tmp_path / "site").invalid]
    assert reasons == ["examined", "it crashed the process that verified it", "examined"]


def test_a_file_that_is_too_large_is_not_read_for_the_cache_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_SIZE + 1)

    def read_bytes(_: Path) -> bytes:
        raise AssertionError("read without a limit")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (refused,) = entries_module.examine(tmp_path, [path], tmp_path / "site")
    assert "larger than 64 MiB" in refused["reasons"][0]


def test_a_folder_without_submissions_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["leaderboard", str(folder), "-o", str(tmp_path / "site")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert str(folder) in line
    assert not (tmp_path / "site").exists()


def test_the_workflow_runs_the_maintainers_script(handed_in: Path, tmp_path: Path) -> None:
    text = (ROOT / ".github/workflows/submissions.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    steps = workflow["jobs"]["verify"]["steps"]
    (run,) = [s["run"] for s in steps if "check_submissions" in s.get("run", "")]
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    assert "pull_request_target" not in text
    script = ROOT / run.split()[0].removeprefix("longwriter/")
    one = tmp_path / "in"
    one.mkdir()
    (one / "forged.zip").write_bytes((handed_in / "forged.zip").read_bytes())
    path = f"{Path(command('longwriter')[0]).parent}{os.pathsep}{os.environ['PATH']}"
    summary = tmp_path / "summary.md"
    ended = subprocess.run(
        [script, one, tmp_path / "site"],
        env=environment(PATH=path, GITHUB_STEP_SUMMARY=str(summary)),
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert "overall_score, mean: claimed 99" in summary.read_text(encoding="utf-8")
    assert ended.returncode == 1, ended.stderr
    assert "not accepted: forged.zip" in ended.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_workflow_pins_its_actions_and_only_the_main_branch_can_publish() -> None:
    text = (ROOT / ".github/workflows/submissions.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert len(used) == 7
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in used)
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "permissions" not in jobs["verify"]
    build_step = next(s for s in jobs["verify"]["steps"] if "check_submissions" in s.get("run", ""))
    # on the main branch, an invalid file does not stop the others
    assert build_step["continue-on-error"] == "${{ github.event_name == 'push' }}"


def test_reasons_cannot_break_out_of_the_summary(tmp_path: Path) -> None:
    folder, summary = tmp_path / "in", tmp_path / "summary.md"
    folder.mkdir()
    (folder / "a`` ```\n<img src=x>.zip").write_bytes(b"nonsense")
    arguments = ["-o", str(tmp_path / "site"), "--summary", str(summary)]
    assert main(["leaderboard", str(folder), *arguments]) == 1
    text = summary.read_text(encoding="utf-8")
    assert text.count("`") == 6
    assert [line for line in text.splitlines() if line.startswith("```")] == ["```text", "```"]
    assert "not a zip file" in text.split("```")[1]


def test_a_submissions_run_equals_the_original_run(handed_in: Path) -> None:
    run = read(handed_in / "good.zip").run()
    original = load_run(handed_in / "runs" / "good")
    for one, other in zip(run.samples, original.samples, strict=True):
        assert (one.id, one.prompt, one.response) == (other.id, other.prompt, other.response)


@pytest.fixture
def page(chromium: Browser, site: Path) -> Iterator[Page]:
    """The page, which must log no errors and make no requests."""
    with opened(chromium, site / "index.html") as found:
        yield found.page
        assert (found.complaints, found.requests) == ([], [])


def _choose_judge(page: Page, name: str) -> None:
    value = page.locator("#judge option", has_text=name).get_attribute("value")
    page.select_option("#judge", value)


def _models(page: Page) -> list[str]:
    return list(page.locator("[data-ranking] table:visible tbody th > a:visible").all_inner_texts())


def test_the_table_sorts_by_every_column(page: Page) -> None:
    _choose_judge(page, "gpt-judge")
    assert _models(page) == ["good", "bad"]
    for name, first, second in (
        ("S̄", ["good", "bad"], ["bad", "good"]),
        ("Model", ["bad", "good"], ["good", "bad"]),
        ("Rank", ["good", "bad"], ["bad", "good"]),
    ):
        button = page.locator("table:visible thead button", has_text=re.compile(f"^{name}$")).first
        for order in (first, second):
            button.click()
            assert _models(page) == order
        heading = button.locator("xpath=ancestor::th")
        assert heading.get_attribute("aria-sort") in ("ascending", "descending")


def test_judge_and_language_filter(page: Page) -> None:
    assert sorted(_models(page)) == ["bad", "good", "other"]
    _choose_judge(page, "another-judge")
    assert _models(page) == ["other"]
    page.select_option("#language", "zh")
    assert page.locator("#status").inner_text() == "1 shown, Chinese"
    assert page.locator("div[data-language]:visible").count() == 1


def test_every_bucket_and_type_has_a_table_with_its_caveat(page: Page) -> None:
    _choose_judge(page, "gpt-judge")
    titles = page.locator("#language option").all_inner_texts()
    assert titles[:3] == ["All prompts", "English", "Chinese"]
    assert "[4k,20k] words" in titles
    assert "News Report" in titles
    page.select_option("#language", "[4k,20k]")
    assert sorted(_models(page)) == ["bad", "good"]
    (caveat,) = page.locator("p[data-language]:visible").all_inner_texts()
    assert "With 3 prompts, a failure that strikes up to 63% of" in caveat


def test_the_search_looks_through_models_and_submitters(page: Page) -> None:
    page.fill("#search", "GOO")
    assert _models(page) == ["good"]
    page.fill("#search", "document.title")
    assert _models(page) == ["good"]
    page.fill("#search", "nobody")
    assert _models(page) == []
    assert page.locator("#status").inner_text() == "0 shown, All prompts"


def test_a_board_without_a_verified_submission_opens(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.zip").write_bytes(b"nonsense")
    page = build(tmp_path / "in", tmp_path / "site").page
    with opened(chromium, page) as found:
        assert found.page.locator("#status").inner_text() == "0 shown, All prompts"
        assert found.complaints == []


def test_the_head_of_the_table_stays_visible_and_the_plot_has_an_axis(page: Page) -> None:
    head = page.locator("table:visible thead th").first
    assert head.evaluate("head => getComputedStyle(head).position") == "sticky"
    axis = page.locator("table:visible thead .axis text").all_text_contents()
    assert axis[:5] == ["0", "25", "50", "75", "100"]


def test_the_csv_has_the_scores_of_every_group_and_no_formulas(site: Path) -> None:
    rows = list(csv.DictReader((site / "leaderboard.csv").read_text("utf-8").splitlines()))
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    entries = {e["file"]: e for ranking in data["rankings"] for e in ranking["entries"]}
    assert {row["prompts"] for row in rows} == {"all", "language", "bucket", "type"}
    for row in rows:
        score = entries[row["file"]]["scores"][row["group"]]["metrics"]["overall_score"]
        assert float(row["overall_score"]) == pytest.approx(score["mean"], abs=1e-4)
    assert _cell("=cmd()") == "'=cmd()"


def test_every_entry_has_a_badge_with_its_score(site: Path) -> None:
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    for entry in (e for ranking in data["rankings"] for e in ranking["entries"]):
        image = ET.parse((site / entry["report"]).with_name("badge.svg")).getroot()
        mean = entry["scores"]["all"]["metrics"]["overall_score"]["mean"]
        assert [text.text for text in image.iter("{http://www.w3.org/2000/svg}text")] == [
            "Demo prompts",
            f"S̄ {mean:.1f}",
        ]


def test_a_hostile_name_cannot_break_a_badge() -> None:
    entry = _entry("a")
    entry["model"] = {"id": {"value": EVIL + "\u202e" + "x" * 400, "source": "submitter"}}
    image = ET.fromstring(badge("Demo prompts", entry))
    assert len(image.attrib["aria-label"]) < 200
    assert {part.tag.rpartition("}")[2] for part in image.iter()} == {
        "svg", "title", "rect", "g", "text",
    }  # fmt: skip


def test_untrusted_text_is_displayed_as_text(page: Page) -> None:
    assert page.title() == "Leaderboard · longwriter"
    assert page.locator("table:visible").get_by_text(EVIL).count() == 1
    assert page.locator("main script").count() == 0
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy
    assert "default-src 'none'" in policy


def test_a_row_opens_its_report(chromium: Browser, site: Path) -> None:
    with opened(chromium, site / "index.html") as found:
        with found.page.expect_navigation():
            found.page.locator("tbody th > a", has_text="good").first.click()
        assert "good" in found.text("h1")
        assert found.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_fits(chromium: Browser, site: Path, width: int, theme: str) -> None:
    with opened(chromium, site / "index.html", width, theme) as found:
        assert found.evaluate("document.documentElement.scrollWidth") <= width


__all__ = ["chromium"]  # pytest finds the fixture by its name here
