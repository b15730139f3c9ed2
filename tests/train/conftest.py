"""Import axolotl without its warnings for modules marked `axolotl`, or skip them without it."""

import os
import warnings
from collections.abc import Callable

import pytest
from support.reference_loss import EXACT, AssertExact


@pytest.fixture(autouse=True, scope="module")
def _axolotl(request: pytest.FixtureRequest) -> None:
    """Import axolotl before the tests' own imports, because it and torchao warn on import."""
    if request.node.get_closest_marker("axolotl") is None:
        return
    os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"  # no telemetry
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    pytest.importorskip("axolotl", reason="needs the train extra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import axolotl.core.builders
        import axolotl.core.trainers.dpo.args
        import axolotl.integrations.base
        import axolotl.utils.config  # noqa: F401


@pytest.fixture
def assert_exact(record_property: Callable[[str, object], None]) -> AssertExact:
    """Assert that a training strategy's relative error is below `EXACT`, and record it.

    scripts/measure_loss.py prints the recorded errors as the table in docs/LOSS.md.
    """

    def check(strategy: str, error: float) -> None:
        record_property("strategy", [strategy, error])
        assert error < EXACT, strategy

    return check
