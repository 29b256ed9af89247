"""Run searches in a process that cannot import torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETUP = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "transformers"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Blocker())

from contextlib import nullcontext
import numpy as np
from captioner.config import AnswerConfig, DecodingConfig
from captioner.decoding import Trie
from captioner.decoding.numpy_arrays import NUMPY
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_captions, stream_tokens
from captioner.generation.constraints import build_constraints
from captioner.tokenizer import BOS, EOS

PIECES = [None] * 4 + [" a", " red", " dog", " cat", " ball", "s"]


class Words:
    ends, silent, suppressed = (EOS,), (), ()

    def list_pieces(self):
        return PIECES

    def encode(self, text):
        text, ids = " " + text, []
        while text:
            ids.append(next((i for i, x in enumerate(PIECES) if x and text.startswith(x)), 1))
            text = text[len(PIECES[ids[-1]] or "x") :]
        return [*ids, EOS]


class Table:
    "A backend whose logits depend on the image and the last token."

    arrays = NUMPY
    bos, ends, admits, captions = BOS, (EOS,), True, True
    answers = ()
    inference = staticmethod(nullcontext)

    def start(self, memories, *, rows, room, temperature=1.0):
        self.present, self.rows = list(memories), rows
        return self

    def step(self, tokens):
        tables = np.stack([logits(seed) for seed in self.present])  # (B, V, V)
        return tables[np.arange(len(tokens))[:, None], tokens]

    def reorder(self, rows):
        self.present = [self.present[row // self.rows] for row in rows[:: self.rows].tolist()]


def logits(seed):
    table = np.random.default_rng(seed).standard_normal((len(PIECES),) * 2).astype(np.float32)
    table[:, :EOS] = float("-inf")
    return table
"""

SEARCHES = """
seeds, backend = [1, 2, 3], Table()
options = {"max_length": 9, "must_include": ("red ball|cats",), "banned": ("dog",)}
options |= {"no_repeat_ngram": 2, "min_length": 3, "repetition_penalty": 1.5, "no_dangling": True}
for config in (
    DecodingConfig(beam_size=5, **options),
    DecodingConfig(beam_size=6, groups=3, diversity=0.5, **options),
):
    constraints = build_constraints(config, Words(), lowercase=True)
    for [best, *_] in search_captions(backend, seeds, config, constraints):
        text = "".join(PIECES[token] for token in best.tokens[:-1])
        assert best.tokens[-1] == EOS
        assert len(best.tokens) > 3
        assert "red ball" in text or "cats" in text.split()
        assert "dog" not in text.split()

sampled = DecodingConfig(method="sample", max_length=9, top_k=4, top_p=0.9, min_p=0.01, seed=3)
drawn = [found[0].tokens for found in search_captions(backend, seeds, sampled)]
alone = [search_captions(backend, [seed], sampled)[0][0].tokens for seed in seeds[:1]]
assert drawn[:1] == alone

greedy = DecodingConfig(beam_size=1, max_length=9)
[[best]] = search_captions(backend, [2], greedy)
assert list(stream_tokens(backend, 2, greedy)) == [t for t in best.tokens if t != EOS]

answers = [[6, EOS], [6, 9, EOS], [5, 8, EOS]]
[found] = search_answers(
    backend, [4], AnswerConfig(beam_size=3), closed=Trie(answers, eos=EOS)
)
assert sorted(h.tokens for h in found) == sorted(answers)
assert abs(sum(np.exp(h.logprob) for h in found) - 1) < 1e-5

assert "torch" not in sys.modules
print("done")
"""


def test_searches_run_where_torch_cannot_be_imported() -> None:
    """This covers rules, groups, required phrases, closed sets, samples and streams."""
    root = Path(__file__).parents[3]
    code = SETUP + SEARCHES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.stderr, done.stdout) == ("", "done\n")


def test_the_process_of_this_test_rejects_torch() -> None:
    root = Path(__file__).parents[3]
    code = SETUP + "\nimport captioner.decoding.torch_arrays\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert "torch must not be imported" in done.stderr
