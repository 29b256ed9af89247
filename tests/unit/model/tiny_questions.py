"""Small models with a question encoder and a fusion, and their inputs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from captioner.build import build_model
from captioner.config import ModelConfig, QuestionConfig
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer

SIZES = ModelConfig(width=12, heads=3, ffn=20, decoder_layers=2, max_length=8, dropout=0.0)
QUESTIONS = {
    "concat": QuestionConfig(fusion="concat"),
    "cross_attention": QuestionConfig(fusion="cross_attention"),
    "add": QuestionConfig(fusion="add"),
    "multiply": QuestionConfig(fusion="multiply"),
    "linear": QuestionConfig(fusion="linear"),
    "graph": QuestionConfig(fusion="graph", graph_neighbors=1),
    "linear of each": QuestionConfig(fusion="linear", linear_memory="each"),
}
every_fusion = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
# Image 1 has no question, the others have several, in mixed order.
OWNERS, LENGTHS, ANSWERS = (2, 0, 2, 0), (6, 2, 4, 1), (3, 1, 2, 3)


def make_tokenizer() -> Tokenizer:
    return Tokenizer.train(["what colour is it", "a red circle"] * 20, vocab_size=300)


class Grid(nn.Module):
    """A backbone of one convolution: 16 pixels to a 2 x 2 grid of 6 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, stride=8)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(pixels).flatten(2).transpose(1, 2)


@torch.no_grad()
def shake(module: nn.Module) -> None:
    """Replace all default weights, so that every weight affects the result."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.3)


def make_model(tokenizer: Tokenizer, question: QuestionConfig | None, **changes) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, question=question, **changes)
    model = build_model(sizes, Grid(), tokenizer=tokenizer, channels=6, positions=4)
    shake(model)
    return model.double().eval()


def make_images() -> Tensor:
    return torch.randn(3, 3, 16, 16, dtype=torch.float64)


def make_ids(lengths: tuple[int, ...], *, end: bool = True) -> Tensor:
    """Return random ids (N, longest), padded after the lengths."""
    ids = torch.randint(EOS + 1, 250, (len(lengths), max(lengths)))
    for row, n in zip(ids, lengths, strict=True):
        row[n - 1 :] = PAD
        row[n - 1] = EOS if end else BOS
    return ids


def make_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, decoder inputs of the answers (N, 1, T), questions (N, S) and owners."""
    torch.manual_seed(1)
    answers = make_ids(ANSWERS).roll(1, -1)
    answers[:, 0] = BOS
    answers[torch.arange(answers.shape[1]) >= torch.tensor(ANSWERS)[:, None]] = PAD
    return make_images(), answers[:, None], make_ids(LENGTHS), torch.tensor(OWNERS)


def per_question(logits: Tensor) -> list[Tensor]:
    return list(logits.split(ANSWERS))
