"""AgentWrite as an OpenAI-compatible endpoint."""
