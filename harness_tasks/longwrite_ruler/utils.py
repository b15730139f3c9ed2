"""lm-eval 0.4.11 finds the classes of its tasks only beside the YAML."""

from longwriter_eval.lm_eval_task.tasks import RulerTask  # noqa: F401
