"""The studio of `agentwrite serve`: a page to plan, write, rewrite and download texts."""
