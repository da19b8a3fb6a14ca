"""`python -m benchmarks.NAME` prints ratios against named alternatives, measured here and now."""

import utils.openmp  # noqa: F401, before PyTorch
