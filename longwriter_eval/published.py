"""Published LongBench-Write scores, as reference values. Imports nothing."""

# Scores that were checked against the paper, which does not report the missing metrics.
REPORTED_JUDGE, REPORTED_SOURCE = "gpt-4o-2024-05-13", "arXiv 2408.07055"
REPORTED = (
    {"model": "LongWriter-9B-DPO", "overall_score": 84.0},
    {"model": "Claude 3.5 Sonnet", "overall_score": 80.7},
    {
        "model": "Llama-3.1-8B-Instruct",
        "overall_score": 60.3,
        "length_score": 50.0,
        "quality_score": 70.6,
    },
    {
        "model": "GLM-4-9B, the paper's SFT without LongWriter-6k",
        "length_score": 48.1,
        "quality_score": 77.1,
    },
)
