"""Build tiny BLIP folders: captions, and questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessor,
)

from public_folders.tokenizers import save_square_processor, save_word_piece, scatter_weights


def build_blip(folder: Path, seed: int, **options: Any) -> None:
    _build(BlipForConditionalGeneration, folder, seed, **options)


def build_blip_vqa(folder: Path, seed: int, **options: Any) -> None:
    _build(BlipForQuestionAnswering, folder, seed, **options)


def _build(kind: Any, folder: Path, seed: int, *, image: int = 32, gain: float = 1.0) -> None:
    tokenizer = save_word_piece(folder, "[DEC]", "[ENC]")
    ids = {"bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"), "pad_token_id": 0}
    ids |= {"eos_token_id": 2, "sep_token_id": 3, "vocab_size": len(tokenizer)}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4}
    text = {**sizes, **ids, "encoder_hidden_size": 32, "max_position_embeddings": 40}
    vision = {**sizes, "image_size": image, "patch_size": image // 4}
    model = kind(BlipConfig(text_config=text, vision_config=vision))
    scatter_weights(model, seed, gain)
    model.text_decoder.cls.predictions.bias.data[3] = 3  # so that some texts are short
    model.save_pretrained(folder)
    save_square_processor(folder, image, BlipImageProcessor)
