"""Build tiny VisionEncoderDecoder folders with several kinds of encoders and decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    BartConfig,
    BeitConfig,
    BertConfig,
    DeiTConfig,
    GPT2Config,
    RobertaConfig,
    SwinConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

from public_folders.tokenizers import (
    save_byte_level,
    save_square_processor,
    save_unigram,
    save_word_piece,
    scatter_weights,
)

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ENCODERS = {"vit": ViTConfig, "deit": DeiTConfig, "beit": BeitConfig}


def build_encoder_decoder(
    folder: Path, seed: int, encoder: str = "vit", decoder: str = "gpt2", *, width: int = 32
) -> None:
    """Write a folder; an encoder `width` other than 32 adds a projection."""
    text, ids = _decoder(folder, decoder)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(_encoder(encoder, width), text)
    for name, value in ids.items():
        setattr(config, name, value)
    model = VisionEncoderDecoderModel(config=config)
    for name, value in ids.items():
        setattr(model.generation_config, name, value)
    scatter_weights(model, seed)
    model.save_pretrained(folder)
    save_square_processor(folder, 32)


def _encoder(kind: str, width: int) -> Any:
    if kind == "swin":
        return SwinConfig(
            image_size=32, patch_size=4, embed_dim=width // 2, depths=[1, 1], num_heads=[2, 4],
            window_size=4,
        )  # fmt: skip
    return ENCODERS[kind](hidden_size=width, image_size=32, patch_size=8, **SIZES)


def _decoder(folder: Path, kind: str) -> tuple[Any, dict[str, int]]:
    """Save the tokenizer; return the configuration and the special ids of the whole model."""
    sizes: dict[str, Any] = {**SIZES, "hidden_size": 32, "max_position_embeddings": 40}
    if kind == "gpt2":  # one token begins, ends and pads
        vocabulary = len(save_byte_level(folder))
        sizes = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 40}
        text: Any = GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **sizes)
        return text, {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "bert":
        text = BertConfig(vocab_size=len(save_word_piece(folder)), **sizes)
        return text, {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vocabulary = len(save_unigram(folder))
    ids = {"bos_token_id": 3, "eos_token_id": 1, "pad_token_id": 0}
    if kind == "roberta":
        return RobertaConfig(vocab_size=vocabulary, **ids, **sizes), {
            **ids, "decoder_start_token_id": 3
        }  # fmt: skip
    text = BartConfig(
        vocab_size=vocabulary, d_model=32, decoder_layers=2, decoder_attention_heads=4,
        decoder_ffn_dim=48, max_position_embeddings=40, forced_eos_token_id=1, **ids,
    )  # fmt: skip
    return text, {**ids, "decoder_start_token_id": 1}
