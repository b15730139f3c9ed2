"""Submissions: the evidence of a run in one file, from which others can recompute its scores.

A submission is a zip of two files: `manifest.json` describes the model, backend, judge and scores;
`samples.jsonl` has a line per prompt with the response, every reply of the judge, and the scores.
`schema-1.json` is the JSON Schema of both. Prompts are not included, but referenced by id and
SHA-256.
"""
