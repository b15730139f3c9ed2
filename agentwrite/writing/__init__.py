"""Plan, then write: one text from one instruction."""
