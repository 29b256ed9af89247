"""Scoring of candidates and checkpoints against references: the implementation of `score.py`."""
