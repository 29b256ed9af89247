"""Closed answer sets: restrict a search to the members of a set of token sequences.

Shapes: B images, K beams, N rows (B * K), V vocabulary, E edges of the trie, A allowed tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captioner.decoding.beam import Reorder
from captioner.decoding.rules import NEVER
from captioner.decoding.search import Step


class Trie:
    """A prefix tree of token sequences in flat tensors, shared by any number of searches.

    Every sequence ends in EOS and contains it nowhere else, so that one sequence may be a prefix
    of another. Duplicates count once; `len` is the number of sequences. Nodes are numbers, and 0
    is the root. The edges of a node are adjacent and sorted by token. All sequences end in the
    node `end`, whose only edge is EOS to itself, so that every node has a continuation.

    Raises:
        ValueError: The set is empty, or a sequence is not as described.
    """

    longest: int
    """Length of the longest sequence in tokens, EOS included."""

    def __init__(self, sequences: Iterable[Sequence[int]], *, eos: int) -> None:
        members = {tuple(sequence) for sequence in sequences}
        _check_members(members, eos)
        self._count, self.longest = len(members), max(map(len, members))
        prefixes = {member[:n] for member in members for n in range(1, len(member) + 1)}
        inner = sorted({prefix[:-1] for prefix in prefixes})
        number = {prefix: node for node, prefix in enumerate(inner)}
        self.end = len(inner)
        edges = [(number[p[:-1]], p[-1], number.get(p, self.end)) for p in prefixes]
        parent, token, child = torch.tensor([*edges, (self.end, eos, self.end)]).T
        self.width = int(token.max()) + 1
        self.keys, order = (parent * self.width + token).sort()  # (E,), one number per edge
        self.tokens, self.children = token[order], child[order]
        self.counts = torch.bincount(parent)
        self.first = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return self._count

    def to(self, device: torch.device | str) -> Trie:
        """Return the trie on a device: itself if it is already there."""
        if self.keys.device == torch.device(device):
            return self
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def next_nodes(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Return the nodes (N,) after tokens (N,); `end` for a token that is not allowed."""
        keys = nodes * self.width + tokens
        edge = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        # The key of a token beyond the width could be that of another node's edge.
        exists = (self.keys[edge] == keys) & (tokens < self.width)
        return self.children[edge].where(exists, self.end)

    def allowed(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (A,), in order, and the tokens (A,) that may follow nodes (N,)."""
        counts = self.counts[nodes]
        rows = torch.arange(len(nodes), device=nodes.device).repeat_interleave(counts)
        shift = self.first[nodes] - (counts.cumsum(0) - counts)
        return rows, self.tokens[torch.arange(len(rows), device=rows.device) + shift[rows]]


def _check_members(members: set[tuple[int, ...]], eos: int) -> None:
    if not members:
        raise ValueError("the trie has no sequences; expected at least one")
    for member in members:
        if member.count(eos) != 1 or member[-1] != eos:
            raise ValueError(f"{list(member)}: expected tokens that end in the one EOS, {eos}")
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
        self.nodes = torch.empty(0, dtype=torch.long)  # (N,), set at the first step

    def step(self, tokens: Tensor) -> Tensor:
        logits = self._step(tokens)  # (B, K, V)
        if not len(self.nodes):  # the tokens are BOS
            self._start(tokens, logits.shape[-1])
        else:
            self.nodes = self.trie.next_nodes(self.nodes, tokens.flatten())
        rows, columns = self.trie.allowed(self.nodes)
        flat = logits.flatten(0, 1)  # (N, V)
        allowed = flat[rows, columns]  # (A,)
        # The softmax of a row of -inf alone would be NaN.
        best = allowed.new_full((len(flat),), NEVER).scatter_reduce(0, rows, allowed, "amax")
        allowed = allowed.masked_fill((best == NEVER)[rows], 0.0)
        masked = torch.full_like(flat, NEVER)
        masked[rows, columns] = allowed
        return masked.view_as(logits)

    def _start(self, tokens: Tensor, vocabulary: int) -> None:
        if self.trie.width > vocabulary:
            raise ValueError(
                f"the trie has the token {self.trie.width - 1}, the model {vocabulary} tokens"
            )
        self.trie = self.trie.to(tokens.device)
        self.nodes = torch.zeros_like(tokens.flatten(), dtype=torch.long)

    def reorder(self, rows: Tensor) -> None:
        self._reorder(rows)
        self.nodes = self.nodes[rows]
