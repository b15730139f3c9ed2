#!/usr/bin/env bash
# What a maintainer runs on a folder of pull-requested submissions, and what CI runs on every pull
# request that adds one (.github/workflows/submissions.yml):
#
#   scripts/check_submissions.sh [SUBMISSIONS [SITE]]     default: submissions site
#
# It recomputes every submission from its own evidence and writes the leaderboard's site. Nothing
# is unpacked to the disk and nothing in a submission is run. Exit code 0: all are verified; 1: some
# are not, and the page lists why; 2: there are none, or upstream's files cannot be had.
#
# Whether the judge really said what a submission says, only the judge can tell. That costs a call
# per response, so ask it for new ones by hand, with your own key:
#
#   longwriter verify submissions/NAME.zip --rejudge N
#
# `longwriter verify` recommends N. The outcome is written to submissions/NAME.rejudged.json: commit
# it, and the leaderboard shows it. Only maintainers may add such files.
set -euo pipefail
submissions=${1:-submissions}
site=${2:-site}

# Prompts and the judge's prompt, by SHA-256: what submissions are checked against.
longwriter assets || longwriter assets --fetch

# On GitHub, the reasons also appear on the page of the workflow's run.
longwriter leaderboard "$submissions" -o "$site" \
  ${GITHUB_STEP_SUMMARY:+--summary "$GITHUB_STEP_SUMMARY"}
