"""What is scored, predictions that are given, and names for a benchmark's server."""
