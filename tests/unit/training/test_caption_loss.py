"""Cross-entropy with label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from captioner.training.loss import caption_loss


@given(
    rows=st.integers(1, 9),
    vocab=st.integers(2, 9),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 99),
)
def test_caption_loss_is_the_sum_over_tokens(rows, vocab, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocab, generator=generator)
    labels = torch.randint(vocab, (rows,), generator=generator)
    each = F.cross_entropy(logits, labels, reduction="none")
    # Smoothing mixes the label with a uniform distribution over the vocabulary.
    even = -logits.log_softmax(-1).mean(-1)
    expected = ((1 - smoothing) * each + smoothing * even).sum()
    torch.testing.assert_close(caption_loss(logits, labels, smoothing=smoothing), expected)


def test_caption_loss_of_bfloat16_is_summed_in_float32():
    logits = torch.randn(5000, 4, dtype=torch.bfloat16)
    labels = torch.zeros(5000, dtype=torch.long)
    loss = caption_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, caption_loss(logits.float(), labels))
