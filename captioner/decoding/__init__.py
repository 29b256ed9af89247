"""Searches over a `step` function; they know no image, no text and no model."""

from captioner.decoding.search import Hypothesis, beam_search, greedy_search, sample

__all__ = ["Hypothesis", "beam_search", "greedy_search", "sample"]
