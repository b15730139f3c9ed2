"""Makes lm-eval find this package's tasks without `--include_path`.

No released lm-eval (0.4.11 to 0.4.13) has an entry point for tasks. Copying YAML into lm-eval's own
folder is not an option: with an editable lm-eval, that folder would shadow the real package.
Instead, the wheel installs a `.pth` file that imports this module when Python starts. When
`lm_eval.tasks` is first imported, this module wraps `TaskManager.__init__` so that lm-eval searches
this folder before the user's own `include_path`. The user's tasks therefore take precedence.

lm-eval's pull request 4015 adds an entry point, `lm_eval.tasks`, which pyproject.toml already
declares. If lm-eval reads it, nothing is wrapped.

Every Python process of the environment imports this module, so it imports only `sys` until lm-eval
is imported.
"""

import sys

_MODULES = ("lm_eval.tasks.manager", "lm_eval.tasks")  # from 0.4.13 on, and in earlier releases


class _Finder:
    """Finds the two modules as Python would, and patches them after they are executed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Return the spec of another finder, with a loader that patches the module."""
        if name not in _MODULES:
            return None
        for finder in sys.meta_path:
            spec = finder is not cls and finder.find_spec(name, path, target)
            if spec and spec.loader:
                _patch_when_executed(spec.loader)
                return spec
        return None


def _patch_when_executed(loader):
    execute = loader.exec_module

    def execute_and_patch(module):
        execute(module)
        patch(module)

    loader.exec_module = execute_and_patch


def install():
    """Install the finder that waits for lm-eval. Further calls have no effect."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def patch(module):
    """Make the TaskManager that `module` defines search this folder too."""
    manager = getattr(module, "TaskManager", None)
    if manager is None or manager.__module__ != module.__name__ or _reads_entry_points():
        return
    import functools
    from pathlib import Path

    initialise = manager.__init__

    @functools.wraps(initialise)
    def __init__(self, verbosity=None, include_path=None, *args, **options):
        paths = [include_path] if isinstance(include_path, str | Path) else include_path or []
        initialise(self, verbosity, [str(Path(__file__).parent), *paths], *args, **options)
        self.include_path = include_path  # as the user gave it

    manager.__init__ = __init__


def _reads_entry_points():
    """Return whether this lm-eval's source reads the entry point `lm_eval.tasks`."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("lm_eval")
    for folder in spec.submodule_search_locations if spec else ():
        for pattern in ("*.py", "api/*.py", "tasks/*.py"):
            for path in Path(folder).glob(pattern):
                source = path.read_text(encoding="utf-8", errors="replace")
                if "entry_points" in source and '"lm_eval.tasks"' in source.replace("'", '"'):
                    return True
    return False
