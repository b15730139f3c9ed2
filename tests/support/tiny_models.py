"""The tiny models of `longwriter recipes tiny`, under the name that tests know."""

from longwriter_train.tiny_models import make_tiny_glm, make_tiny_llama, make_tiny_qwen

__all__ = ["make_tiny_glm", "make_tiny_llama", "make_tiny_qwen"]
