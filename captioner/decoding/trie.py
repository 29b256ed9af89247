"""Closed answer sets: restrict a search to the members of a set of token sequences.

Shapes: B images, K beams, N rows (B * K), V vocabulary, E edges of the trie, A allowed tokens.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np

from captioner.decoding.arrays import Array, Arrays, namespace
from captioner.decoding.beam import Reorder
from captioner.decoding.ends import Ends, list_ends
from captioner.decoding.numpy_arrays import NUMPY
from captioner.decoding.rules import NEVER
from captioner.decoding.search import Step


class Trie:
    """A prefix tree of token sequences in flat arrays, shared by any number of searches.

    Every sequence ends in EOS and contains it nowhere else, so that one sequence may be a prefix
    of another. Duplicates count once; `len` is the number of sequences. Nodes are numbers, and 0
    is the root. The edges of a node are adjacent and sorted by token. All sequences end in the
    node `end`, whose only edge is EOS to itself, so that every node has a continuation.

    If several ids end a sequence, the first stands for all of them: every sequence is stored with
    it, and a search gives it their total probability.

    Raises:
        ValueError: The set is empty, or a sequence is not as described.
    """

    members: set[tuple[int, ...]]
    """The sequences."""
    longest: int
    """Length of the longest sequence in tokens, EOS included."""

    def __init__(self, sequences: Iterable[Sequence[int]], *, eos: Ends) -> None:
        self.ends = list_ends(eos)
        eos = self.ends[0]
        given = {tuple(sequence) for sequence in sequences}
        _check_members(given, self.ends)
        members = {(*sequence[:-1], eos) for sequence in given}
        self.members, self.longest = members, max(map(len, members))
        prefixes = {member[:n] for member in members for n in range(1, len(member) + 1)}
        inner = sorted({prefix[:-1] for prefix in prefixes})
        number = {prefix: node for node, prefix in enumerate(inner)}
        self.end = len(inner)
        edges = [(number[p[:-1]], p[-1], number.get(p, self.end)) for p in prefixes]
        parent, token, child = np.array([*edges, (self.end, eos, self.end)], np.int64).T
        self.width = int(token.max()) + 1
        keys = parent * self.width + token  # one number per edge
        order = keys.argsort()
        self.keys, self.tokens, self.children = keys[order], token[order], child[order]  # (E,)
        self.counts = np.bincount(parent)
        self.first = self.counts.cumsum(0) - self.counts
        self.arrays, self._converted = NUMPY, {NUMPY: self}

    def __len__(self) -> int:
        return len(self.members)

    def convert(self, arrays: Arrays) -> Trie:
        """Return the trie in arrays of a library, converted at the first use."""
        if arrays not in self._converted:
            converted = copy.copy(self)
            converted.arrays = arrays
            for name in ("keys", "tokens", "children", "counts", "first"):
                setattr(converted, name, arrays.asarray(getattr(self._converted[NUMPY], name)))
            self._converted[arrays] = converted
        return self._converted[arrays]

    def next_nodes(self, nodes: Array, tokens: Array) -> Array:
        """Return the nodes (N,) after tokens (N,); `end` for a token that is not allowed."""
        keys = nodes * self.width + tokens
        edge = self.arrays.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        # The key of a token beyond the width could be that of another node's edge.
        exists = (self.keys[edge] == keys) & (tokens < self.width)
        return self.arrays.where(exists, self.children[edge], self.end)

    def allowed(self, nodes: Array) -> tuple[Array, Array]:
        """Return the rows (A,), in order, and the tokens (A,) that may follow nodes (N,)."""
        arrays, counts = self.arrays, self.counts[nodes]
        rows = arrays.repeat(arrays.arange(len(nodes)), counts)
        shift = self.first[nodes] - (counts.cumsum(0) - counts)
        return rows, self.tokens[arrays.arange(len(rows)) + shift[rows]]


def _check_members(members: set[tuple[int, ...]], ends: Sequence[int]) -> None:
    if not members:
        raise ValueError("the trie has no sequences; expected at least one")
    for member in members:
        if sum(map(member.count, ends)) != 1 or member[-1] not in ends:
            expected = " or ".join(map(str, ends))
            raise ValueError(f"{list(member)}: expected tokens that end in the one EOS, {expected}")
        if min(member) < 0:
            raise ValueError(f"{list(member)}: a token cannot be negative")


def constrain_to_trie(step: Step, reorder: Reorder, trie: Trie) -> tuple[Step, Reorder]:
    """Return `step` and `reorder` for one search that generates only members of the trie.

    The logits of all other tokens become -inf. Probabilities are thus renormalized over the
    allowed tokens, and those of all members sum to 1. If the model gives -inf to all allowed
    tokens, they are equally probable. A row that has ended, or that continues no member (an unused
    beam), may only continue with EOS. A search limited to less than `trie.longest` tokens
    truncates members.

    Source: De Cao et al., Autoregressive entity retrieval (ICLR 2021), section 3.1.

    Raises:
        ValueError: At the first step, if the trie has tokens outside the vocabulary.
    """
    constraint = _TrieConstraint(step, reorder, trie)
    return constraint.step, constraint.reorder


class _TrieConstraint:
    """The node of each row in a search."""

    def __init__(self, step: Step, reorder: Reorder, trie: Trie) -> None:
        self._step, self._reorder, self.trie = step, reorder, trie
        self.nodes: Array = None  # (N,), set at the first step

    def step(self, tokens: Array) -> Array:
        logits = self._step(tokens)  # (B, K, V)
        if self.nodes is None:  # the tokens are BOS
            self._start(tokens, logits.shape[-1])
        else:
            self.nodes = self.trie.next_nodes(self.nodes, tokens.reshape(-1))
        arrays = self.trie.arrays
        rows, columns = self.trie.allowed(self.nodes)
        flat = logits.reshape(-1, logits.shape[-1])  # (N, V)
        allowed = flat[rows, columns]  # (A,)
        if len(self.trie.ends) > 1:
            total = _total_logit(flat[:, list(self.trie.ends)])  # (N,)
            allowed = arrays.where(columns == self.trie.ends[0], total[rows], allowed)
        # The softmax of a row of -inf alone would be NaN.
        possible = arrays.full((len(flat),), False)
        possible[rows[allowed > NEVER]] = True
        masked = arrays.full_like(flat, NEVER)
        masked[rows, columns] = arrays.where(possible[rows], allowed, 0.0)
        return masked.reshape(logits.shape)

    def _start(self, tokens: Array, vocabulary: int) -> None:
        if self.trie.width > vocabulary:
            raise ValueError(
                f"the trie has the token {self.trie.width - 1}, the model {vocabulary} tokens"
            )
        self.trie = self.trie.convert(namespace(tokens))
        self.nodes = self.trie.arrays.full((math.prod(tokens.shape),), 0)

    def reorder(self, rows: Array) -> None:
        self._reorder(rows)
        self.nodes = self.nodes[rows]


def _total_logit(logits: Array) -> Array:
    """Return the logits (N,) of the total probabilities of some tokens, from theirs (N, E)."""
    arrays = namespace(logits)
    highest = arrays.amax(logits)
    possible = arrays.where(highest[:, None] == NEVER, 0.0, logits)  # -inf alone would give NaN
    total = arrays.amax(possible) - arrays.amax(arrays.log_softmax(possible))
    return arrays.where(highest == NEVER, NEVER, total)
