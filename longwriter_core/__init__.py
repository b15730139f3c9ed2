"""What the three packages share: files, text, benchmarks, LLM calls and the mock server."""
