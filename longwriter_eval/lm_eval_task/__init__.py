"""The tasks as lm-eval runs them."""
