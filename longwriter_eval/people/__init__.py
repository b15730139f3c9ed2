"""People's preferences between two runs: the page where they choose, and what their choices say."""
