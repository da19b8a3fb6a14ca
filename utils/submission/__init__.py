"""Packages for benchmark servers: made, checked, continued."""
