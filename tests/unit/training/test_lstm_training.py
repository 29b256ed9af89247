"""Training of an LSTM decoder: cross-entropy and self-critical training on one batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_models import small_model, train_small_tokenizer
from torch import Tensor

from captioner.backends.torch_backend import TorchBackend
from captioner.config import DecodingConfig, QuestionConfig
from captioner.data.collate import decoder_input
from captioner.generation.captions import search_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import EOS, PAD
from captioner.training.loss import advantages, self_critical_loss
from captioner.training.samples import sample_captions

LABELS = torch.tensor([[[9, 40, 9, 41, EOS]], [[77, 9, EOS, PAD, PAD]], [[5, 6, 7, 8, EOS]]])


def make_model(**changes) -> Seq2Seq:
    return small_model(train_small_tokenizer(), decoder="lstm", width=16, **changes)


def make_features() -> Tensor:
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))


def overfit(model: Seq2Seq, steps: int, *inputs: Tensor) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        logits = model(make_features(), decoder_input(LABELS), *inputs)
        loss = F.cross_entropy(logits, LABELS[LABELS != PAD])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_captions_of_a_batch_are_learned_and_found_again():
    model = make_model()
    assert overfit(model, 120) < 0.05
    backend = TorchBackend.of_model(model.eval(), device=torch.device("cpu"))
    memories = backend.encode_tensors([make_features()])
    for beams in (1, 3):
        with torch.inference_mode():
            options = DecodingConfig(beam_size=beams, max_length=8)
            found = search_captions(backend, memories, options)
        expected = [[i for i in row if i != PAD] for row in LABELS[:, 0].tolist()]
        assert [hypotheses[0].tokens for hypotheses in found] == expected


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["shared", "lstm", "gru"])
def test_answers_of_a_separate_decoder_are_learned(encoder):
    """The images are equal, so that an answer depends on its question."""
    question = QuestionConfig(encoder=encoder, fusion="concat", encoder_layers=1, decoder_layers=1)
    model = make_model(question=question)
    questions, owners = torch.tensor([[7, 8, EOS], [8, EOS, 0], [8, 7, EOS]]), torch.zeros(3).long()
    assert overfit(model, 300, questions, owners) < 0.05


def test_self_critical_training_raises_the_reward():
    """The reward is the share of one token among those of a sample."""
    torch.manual_seed(1)
    model = make_model().eval()
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    optimizer, means = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(40):
        memories = backend.encode_tensors([make_features()])
        samples = sample_captions(backend, memories, rows=6, max_length=5)
        rewards = (samples == 50).sum(-1) / (samples != PAD).sum(-1)
        logits = model(make_features(), decoder_input(samples))
        loss = self_critical_loss(logits, samples, advantages(rewards, 6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means.append(rewards.mean().item())
    assert sum(means[-5:]) / 5 > 0.5 > 10 * sum(means[:5]) / 5
