"""Build small tokenizers of the kinds that public models use, and small image processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from torch import nn
from transformers import PreTrainedTokenizerFast, ViTImageProcessor

TEXTS = [
    "a dog runs on the grass", "two cats sleep on a red couch", "what color is the dog?",
    "how many cats are there?", "is it a café or a bus stop?", "a man rides a horse", "yes", "no",
    "where is the bus?", "the bus is red", "what is on the couch?", "green and blue",
]  # fmt: skip
"""Captions, questions and answers that the tokenizers are trained on."""
QUESTIONS = [
    "what color is the dog?", "dog?", "how many cats are there on the red couch?", "is it a bus?",
    "where?", "is the man on the grass or on the horse?", "who rides?", "is it green and blue?",
]  # fmt: skip
"""Questions of different lengths."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def save_word_piece(folder: Path, *added: str) -> PreTrainedTokenizerFast:
    """Save a tokenizer like that of BERT, with further special tokens at the end."""
    words = sorted({word.strip("?") for text in TEXTS for word in text.split()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "?", *LETTERS, *(f"##{c}" for c in LETTERS)]
    tokens += [*(word for word in words if len(word) > 1), *added]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    return _save(folder, tokenizer, added, sep_token="[SEP]", **names)


def save_byte_level(folder: Path, *added: str, vocabulary: int = 320) -> PreTrainedTokenizerFast:
    """Save a tokenizer like that of GPT-2: `<|endoftext|>` is the first id and the only end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", *added]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), special[0])
    return _save(folder, tokenizer, added, **ends)


def save_unigram(folder: Path, *added: str, vocabulary: int = 80) -> PreTrainedTokenizerFast:
    """Save a tokenizer like those of SentencePiece: `<pad>` 0, `</s>` 1, `<unk>` 2, `<s>` 3."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<s>", *added]
    trainer = UnigramTrainer(
        vocab_size=vocabulary, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _save(folder, tokenizer, added, bos_token="<s>", **names)


def _save(
    folder: Path, tokenizer: Tokenizer, added: tuple[str, ...], **names: str
) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=list(added), **names
    )
    fast.save_pretrained(folder)
    return fast


def save_square_processor(folder: Path, size: int, kind: Any = ViTImageProcessor) -> None:
    """Save an image processor that resizes to a square and normalizes."""
    square = {"height": size, "width": size}
    kind(size=square, crop_size=square).save_pretrained(folder)


def scatter_weights(model: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Give a model large random weights, so that outputs depend on the image and vary.

    Embeddings of positions are larger than those of tokens. Otherwise, a model with the same
    weights for input and output would repeat its last token.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                is_gain = "weight" in name  # of a layer normalization
                weight.copy_(is_gain + 0.1 * noise)
            elif "embed" in name or name.endswith(("wte.weight", "wpe.weight")):
                weight.copy_(noise if "pos" in name or "wpe" in name else noise / 2)
            else:
                weight.copy_(gain * noise / weight[0].numel() ** 0.5)
