"""Counts, ratios and comparisons of predicted classes."""
