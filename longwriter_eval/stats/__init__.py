"""Statistics: intervals, tests, score tables, agreement between judges, and all thresholds."""
