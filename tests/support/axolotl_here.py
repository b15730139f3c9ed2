"""Import this first to use axolotl in the tests' own process; without axolotl, it skips the module.

Importing axolotl and torchao warns, and axolotl would report its use to its makers.
"""

import os
import warnings

import pytest

os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
pytest.importorskip("axolotl", reason="needs the train extra")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import axolotl.core.builders
    import axolotl.core.trainers.dpo.args
    import axolotl.integrations.base
    import axolotl.utils.config  # noqa: F401
