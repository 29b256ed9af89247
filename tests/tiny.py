"""Tiny models that are built in a second, with checkpoints whose captions depend on the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from captioner.build import build_answer_head, build_model
from captioner.checkpoint.weights import save_best
from captioner.config import (
    BackboneConfig,
    Config,
    DecodingConfig,
    GraphConfig,
    ImageConfig,
    ModelConfig,
    QuestionConfig,
    TokenizerConfig,
)
from captioner.model.cpu.mobilenet import STAGES, MobileNet
from captioner.model.image_encoder import Backbones
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import EOS, Tokenizer

NAME, SIZE, BYTES = "mobilenetv1_100", 64, 256
COLOURS = ("red", "green", "blue", "white", "black", "orange", "pink", "brown")
THINGS = ("dog", "boat", "child", "horse", "street", "beach", "player", "window")


class Grid(nn.Module):
    """A backbone of one convolution and its norm: 16 pixels to a 2 x 2 grid of 6 channels."""

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, stride=8)
        self.norm = nn.BatchNorm2d(6, eps=eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(pixels)).flatten(2).transpose(1, 2)


def make_checkpoint(
    folder: Path,
    *,
    question: QuestionConfig | None = None,
    graph: GraphConfig | None = None,
    size: int = SIZE,
    decoder: str = "transformer",
    answers: Sequence[str] = (),
) -> Path:
    """Write a checkpoint of half a million parameters whose captions differ between images.

    With `question`, it has untrained parts to answer questions, and with `graph`, untrained graph
    layers; `size` is that of its images, `decoder` the architecture of its decoders, and `answers`
    are those of its classifier of questions.
    """
    # Only the first block of each stage is kept: the others do not change the shape.
    spare = [f"blocks.{i}.{j}" for i, stage in enumerate(STAGES[NAME]) for j in range(1, stage[2])]
    config = Config(
        tokenizer=TokenizerConfig(vocab_size=400),
        image=ImageConfig(size=size, mean=(0.5,) * 3, std=(0.5,) * 3),
        model=ModelConfig(
            backbones=(BackboneConfig(NAME, "none", tuple(spare), {"pad_type": "same"}),),
            width=32,
            heads=2,
            encoder_layers=1,
            decoder=decoder,
            decoder_layers=1,
            ffn=64,
            max_length=12,
            graph=graph,
            question=question,
        ),
        decoding=DecodingConfig(beam_size=3, max_length=8),
    )
    texts = [f"a {colour} {thing} by the {other}" for colour in COLOURS for thing in THINGS
             for other in THINGS[:4]]  # fmt: skip
    tokenizer = Tokenizer.train(texts, vocab_size=config.tokenizer.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(8)  # a seed whose captions differ
        backbone = Backbones([MobileNet(NAME, remove=spare)])
        model = build_model(
            config.model,
            backbone,
            tokenizer=tokenizer,
            channels=backbone.models[0].num_features,
            positions=(size // 32) ** 2,
        )
        _sharpen(model)
        if answers:
            add_classifier(model, config, [tokenizer.encode(text) for text in answers])
    save_best(folder, config, tokenizer, model, {"val": {}})
    return folder


def add_classifier(model: Seq2Seq, config: Config, answers: Sequence[Sequence[int]]) -> None:
    """Add a classifier of questions whose answers, given as token ids, differ between images."""
    model.answer_head = build_answer_head(config.model, config.model.question, answers)
    model.answer_head.output.weight.data.mul_(20)


@torch.no_grad()
def _sharpen(model: torch.nn.Module, *, variance: float = 0.05) -> None:
    """Scale weights so that captions depend on the image; dimension 0 biases bytes and EOS.

    `variance` is that of all batch normalizations. With a small one, activations grow from layer to
    layer, and rounding errors with them.
    """
    for norm in model.backbone.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            # Otherwise, weak random activations give all images the same features.
            norm.running_var.fill_(variance)
    decoder = model.decoder
    if isinstance(decoder, LSTMDecoder):
        decoder.initial.weight.mul_(20)
        decoder.soft_attention.score.mul_(20)
        decoder.output.weight.mul_(5)
    else:
        decoder.layers[0].encoder_attn.out_proj.weight.mul_(20)
        decoder.layers[0].encoder_attn.v_proj.weight.mul_(5)
    decoder.embed_tokens.weight[1:].normal_(std=0.5)
    decoder.embed_tokens.weight[:, 0] = 0
    decoder.embed_tokens.weight[EOS + 1 : EOS + 1 + BYTES, 0] = -10
    # Otherwise, every caption of an LSTM has the full length.
    decoder.embed_tokens.weight[EOS, 0] = 0.6 * isinstance(decoder, LSTMDecoder)
    decoder.layer_norm.weight[0], decoder.layer_norm.bias[0] = 0, 5


def make_text_encoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a Hugging Face text encoder with random weights and a tokenizer of a few words.

    The id of its padding is not 0.
    """
    from tokenizers import Tokenizer as Words
    from tokenizers import models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    text = "what colour shape is it on which side the left right red green circle square"
    vocabulary = {word: i for i, word in enumerate(special + text.split() + list("?abc"))}
    words = Words(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("unk", "cls", "sep", "pad"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, **{f"{name}_token": token for name, token in names.items()}
    )
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        pad_token_id=vocabulary["[PAD]"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).to(dtype).save_pretrained(folder)
    return folder


def picture(seed: int, *, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Return an image of random colored blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
