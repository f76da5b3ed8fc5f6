"""Measurements: how fast, at what price, against what the same machine could do at best."""
