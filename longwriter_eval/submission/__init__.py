"""Submissions: a run's evidence in one file, and what others can recompute from it.

A submission is a zip of two files: `manifest.json` says what was measured, how, and what came out;
`samples.jsonl` has a line per prompt with the response, every reply of the judge, and the scores.
`schema-1.json` is the JSON Schema of both. Prompts are not in it: they are upstream's, by id and
SHA-256.
"""
