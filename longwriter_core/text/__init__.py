"""Pure functions on text: word counts, required lengths, language, diagnostics and clean-up."""
