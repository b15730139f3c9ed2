"""What imports may load, and which packages may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS = {"torch", "transformers", "lm_eval", "datasets"}
HEAVY = MODELS | {
    "openai", "aiohttp", "pydantic", "numpy", "scipy", "matplotlib", "ray", "py3langid",
    "datasketch", "jsonschema", "krippendorff", "axolotl",
}  # fmt: skip
# The packages that each of the four packages may import.
MAY_IMPORT = {
    "longwriter_core": set(),
    "longwriter_eval": {"longwriter_core"},
    "agentwrite": {"longwriter_core", "longwriter_eval"},
    "longwriter_train": {"longwriter_core", "longwriter_eval"},
}
PACKAGES = sorted(MAY_IMPORT)


def _loaded_by(code: str, candidates: set[str] = HEAVY) -> set[str]:
    """Return the candidates that a new interpreter has loaded after running `code`."""
    code = f"{code}\nimport sys; print(*({candidates!r} & set(sys.modules)), sep=',')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(filter(None, ended.stdout.splitlines()[-1].split(",")))


@pytest.mark.parametrize("module", [*PACKAGES, "longwriter_eval.cli", "agentwrite.cli"])
def test_importing_a_package_or_a_command_loads_nothing_heavy(module: str) -> None:
    assert _loaded_by(f"import {module}") == set()


@pytest.mark.parametrize("command", ["longwriter", "agentwrite"])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        f"(entry,) = entry_points(group='console_scripts', name={command!r})\n"
        "try: entry.load()(['--help'])\n"
        "except SystemExit: pass"
    )
    # Importing pydantic takes a tenth of a second. The settings, whose defaults the help names,
    # are pydantic models.
    assert _loaded_by(code, HEAVY - {"pydantic"}) == set()


@pytest.mark.parametrize("module", ["agentwrite.batch.run", "longwriter_eval.judge"])
def test_writing_and_judging_load_neither_lm_eval_nor_torch(module: str) -> None:
    assert _loaded_by(f"import {module}", MODELS) == set()


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield (importing module, imported module) for every import in a package.

    Imports inside functions are included.
    """
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} has a relative import"
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package: str) -> None:
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    wrong = [(a, b) for a, b in _imports(package) if b.partition(".")[0] in forbidden]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_subpackages_have_no_import_cycle(package: str) -> None:
    modules, subpackages = TopologicalSorter[str](), TopologicalSorter[str]()
    for importing, imported in _imports(package):
        if imported.startswith(f"{package}."):
            if not _is_module(imported):  # a name inside a module
                imported = imported.rpartition(".")[0]
            modules.add(importing, imported)
            rooms = [_subpackage(importing), _subpackage(imported)]
            if all(rooms) and rooms[0] != rooms[1]:
                subpackages.add(*rooms)
    modules.prepare()  # raises CycleError, which names the cycle
    subpackages.prepare()


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _subpackage(module: str) -> str:
    """Return the folder inside the package that a module is in, or "" for a top-level module."""
    room = ".".join(module.split(".")[:2])
    return room if (ROOT / room.replace(".", "/")).is_dir() else ""
