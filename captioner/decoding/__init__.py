"""Searches over a `step` function; they know no image, no text and no model."""

from captioner.decoding.search import Hypothesis, beam_search, greedy_search, sample
from captioner.decoding.trie import Trie, constrain

__all__ = ["Hypothesis", "Trie", "beam_search", "constrain", "greedy_search", "sample"]
