"""Comparisons as data files, and the command that runs one: `python -m experiments.compare FILE.toml`."""
