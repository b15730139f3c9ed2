"""The LLM judge: settings, prompt, verdicts."""
