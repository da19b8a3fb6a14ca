"""Decoded samples on disk."""

CACHES = ("raw", "compressed")
