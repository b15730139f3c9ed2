"""AgentWrite: from an instruction to a long text, planned and then written step by step."""
