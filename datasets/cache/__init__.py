"""Caches of decoded samples and of what was counted in labels."""
