"""`python -m benchmarks.NAME` prints ratios against named alternatives, measured here and now."""
