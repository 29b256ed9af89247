"""Candidates against references: the implementation of `score.py`."""
