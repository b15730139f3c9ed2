"""Installing beside lm-eval: the tasks are found in every combination and order of installs, and
uninstalling leaves lm-eval unchanged."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = (
    "from lm_eval.tasks import TaskManager; import lm_eval; assert lm_eval.__file__; "
    "print(*TaskManager(include_defaults=False).all_tasks)"
)


def pip(python: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    command += ["--quiet", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our wheel and unpacked sdist, and lm-eval's wheels and unpacked sdists."""
    folder = tmp_path_factory.mktemp("sources")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, timeout=240
    )
    for version in ("0.4.11", "0.4.13"):
        for form in ("--only-binary", "--no-binary"):
            pip(
                Path(sys.executable), "download", "--no-deps", form, "lm_eval",
                "--dest", str(folder), f"lm_eval=={version}",
            )  # fmt: skip
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, for editable installs."""
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", "build", ".*_cache")
    return Path(
        shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "longwriter", ignore=ignored)
    )


@pytest.fixture(scope="module")
def other_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every package of this environment except lm-eval and this project."""
    folder = tmp_path_factory.mktemp("packages")
    site_packages = Path(sysconfig.get_path("purelib"))
    places = [site_packages]
    for path in site_packages.glob("borrowed.pth"):
        places += map(Path, path.read_text(encoding="utf-8").split())
    for place in places:
        for path in place.iterdir():
            is_ours = path.name.startswith(("lm_eval", "longwriter", "harness_tasks"))
            if not is_ours and path.suffix != ".pth" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


def environment(folder: Path, other_packages: Path) -> Path:
    """A virtual environment that borrows every other package; returns its Python."""
    venv.create(folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "zz_borrowed.pth").write_text(str(other_packages), encoding="utf-8")
    return folder / "bin" / "python"


def tasks(python: Path) -> list[str]:
    ended = subprocess.run(
        [str(python), "-c", TASKS], capture_output=True, text=True, timeout=120, check=False,
        cwd=python.parent,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


# Every pair of choices occurs: all 24 combinations would take a quarter of an hour.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "version", "order"),
    [
        ("wheel", "wheel", "0.4.11", "ours-first"),
        ("wheel", "editable", "0.4.13", "lm-eval-first"),
        ("editable", "wheel", "0.4.13", "ours-first"),
        ("editable", "editable", "0.4.11", "lm-eval-first"),
        ("sdist", "wheel", "0.4.11", "lm-eval-first"),
        ("sdist", "editable", "0.4.13", "ours-first"),
    ],
    ids="-".join,
)
def test_the_tasks_are_found_and_uninstalling_removes_everything(
    sources: Path,
    checkout: Path,
    other_packages: Path,
    tmp_path: Path,
    ours: str,
    theirs: str,
    version: str,
    order: str,
) -> None:
    python = environment(tmp_path / "venv", other_packages)
    own_sources = {
        "wheel": [str(next(sources.glob("longwriter-*.whl")))],
        "editable": ["--editable", str(checkout)],
        "sdist": ["--editable", str(next(p for p in sources.glob("longwriter-*") if p.is_dir()))],
    }
    lm_eval_sources = {
        "wheel": [str(next(sources.glob(f"lm_eval-{version}-*.whl")))],
        "editable": ["--editable", str(sources / f"lm_eval-{version}")],
    }
    installs: list[Sequence[str]] = [own_sources[ours], lm_eval_sources[theirs]]
    for install in installs if order == "ours-first" else reversed(installs):
        pip(python, "install", "--no-deps", "--ignore-installed", *install)
    assert "longbench_write" in tasks(python)
    pip(python, "uninstall", "--yes", "longwriter")
    assert not tasks(python)
    (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    names = [path.name for path in site_packages.iterdir() if path.name != "__pycache__"]
    assert not [name for name in names if "longwriter" in name or name == "harness_tasks"]
