"""Searches over a `step` function; they know no image, no text and no model."""

from captioner.decoding.automaton import FORBIDDEN, Automaton, follow
from captioner.decoding.beam import beam_search, beam_stream
from captioner.decoding.rules import Rule, Written, min_length, no_repeat_ngram, repetition_penalty
from captioner.decoding.search import (
    Hypothesis,
    Sampler,
    greedy_search,
    hypotheses,
    length_score,
    likeliest,
    sample,
    write,
)
from captioner.decoding.trie import Trie, constrain

__all__ = [
    "FORBIDDEN",
    "Automaton",
    "Hypothesis",
    "Rule",
    "Sampler",
    "Trie",
    "Written",
    "beam_search",
    "beam_stream",
    "constrain",
    "follow",
    "greedy_search",
    "hypotheses",
    "length_score",
    "likeliest",
    "min_length",
    "no_repeat_ngram",
    "repetition_penalty",
    "sample",
    "write",
]
