"""The versions that results and submissions record."""

__version__ = "0.1.0"

# The version of the tasks, as their YAML states it. Runs and archives of older versions are scored
# by the rules of their version (see the changelog), and rank apart from others.
TASK_VERSION = 1.1
