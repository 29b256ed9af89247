"""Search over a `step` function: greedy, beam, sampling, rules and constraints.

The package imports no model, image or text code. A search receives `step`, and `reorder` where it
has beams; every rule that changes its output is a named parameter that is off by default.
"""

from captioner.decoding.automaton import FORBIDDEN, Automaton, can_satisfy_both, satisfy_automata
from captioner.decoding.beam import beam_search, beam_stream
from captioner.decoding.rules import Prefixes, Rule, min_length, no_repeat_ngram, repetition_penalty
from captioner.decoding.search import (
    Hypothesis,
    Sampler,
    choose_best,
    collect_hypotheses,
    generate_steps,
    greedy_search,
    length_normalization,
    sample,
)
from captioner.decoding.trie import Trie, constrain_to_trie

__all__ = [
    "FORBIDDEN", "Automaton", "Hypothesis", "Prefixes", "Rule", "Sampler", "Trie", "beam_search",
    "beam_stream", "can_satisfy_both", "choose_best", "collect_hypotheses", "constrain_to_trie",
    "generate_steps", "greedy_search", "length_normalization", "min_length", "no_repeat_ngram",
    "repetition_penalty", "sample", "satisfy_automata",
]  # fmt: skip
