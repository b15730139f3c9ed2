#!/usr/bin/env bash
# Makes submissions/example.zip: a submission by the demo's mock models, whose scores mean nothing.
# The leaderboard lists it as an example and never ranks it. Needs no network and no key.
#
#   scripts/make_example_submission.sh [FILE]     default: submissions/example.zip
set -euo pipefail
file=${1:-submissions/example.zip}
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT

longwriter demo --output "$run"
mkdir -p "$(dirname "$file")"
longwriter submit "$run" -o "$file" --example --submitter "longwriter's demo"
longwriter verify "$file"
