"""`longwriter leaderboard`: verified submissions as a static site. Nothing claimed is shown.

`entries` verifies submissions and keeps what came of each, `ranking` orders them, and `site` writes
leaderboard.json and the page, whose rows open the submissions' reports.
"""
