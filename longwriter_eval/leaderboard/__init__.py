"""`longwriter leaderboard`: verified submissions as a static site, without unverified claims.

`entries` verifies submissions and caches the results, `copies` rejects copied submissions, and
`site` ranks them and writes leaderboard.json and the page, whose rows link to the reports.
"""
