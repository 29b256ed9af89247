"""Build tiny BLIP-2 and InstructBLIP folders with language models of both kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from public_folders.tokenizers import (
    save_byte_level,
    save_unigram,
    save_word_piece,
    scatter_weights,
)

QUERIES = 4
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
LAYERS = {**SIZES, "num_hidden_layers": 2}


def build_blip2_opt(folder: Path, seed: int) -> None:
    tokenizer = save_byte_level(folder)
    _add_ends(tokenizer, before="<|endoftext|>")
    processor = Blip2Processor(_images(), tokenizer, num_query_tokens=QUERIES)
    _build_blip2(folder, seed, processor, _opt(tokenizer))


def build_blip2_t5(folder: Path, seed: int) -> None:
    tokenizer = save_unigram(folder)
    _add_ends(tokenizer, after="</s>")
    processor = Blip2Processor(_images(), tokenizer, num_query_tokens=QUERIES)
    _build_blip2(folder, seed, processor, _t5(tokenizer))


def build_instructblip_llama(folder: Path, seed: int) -> None:
    tokenizer = save_unigram(folder)
    _add_ends(tokenizer, before="<s>")
    _build_instructblip(folder, seed, tokenizer, _llama)


def build_instructblip_t5(folder: Path, seed: int) -> None:
    tokenizer = save_unigram(folder)
    _add_ends(tokenizer, after="</s>")
    _build_instructblip(folder, seed, tokenizer, _t5)


def _images() -> BlipImageProcessor:
    return BlipImageProcessor(size={"height": 32, "width": 32})


def _add_ends(tokenizer: PreTrainedTokenizerFast, *, before: str = "", after: str = "") -> None:
    """Let a tokenizer add a token before or after each text."""
    names = [name for name in (before, after) if name]
    template = TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    tokenizer.backend_tokenizer.post_processor = template


def _opt(tokenizer: PreTrainedTokenizerFast) -> OPTConfig:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, "vocab_size": len(tokenizer)}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    ids["tie_word_embeddings"] = False
    return OPTConfig(**sizes, **layers, **ids, max_position_embeddings=160)


def _llama(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    ids = {"bos_token_id": 3, "eos_token_id": 1, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    return LlamaConfig(**LAYERS, **ids, num_key_value_heads=2, max_position_embeddings=160)


def _t5(tokenizer: PreTrainedTokenizerFast) -> T5Config:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
    ids |= {"vocab_size": len(tokenizer), "tie_word_embeddings": False}
    return T5Config(**sizes, **ids, feed_forward_proj="gated-gelu", n_positions=160)


def _build_blip2(folder: Path, seed: int, processor: Blip2Processor, text: Any) -> None:
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    config = Blip2Config(
        vision_config=vision,
        qformer_config={**LAYERS, "vocab_size": 10, "cross_attention_frequency": 1},
        text_config=text,
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    scatter_weights(model, seed, 2.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _build_instructblip(folder: Path, seed: int, tokenizer: Any, text: Any) -> None:
    words = folder / "words"
    words.mkdir()
    save_word_piece(words)
    reader = AutoTokenizer.from_pretrained(words)
    processor = InstructBlipProcessor(_images(), tokenizer, reader, num_query_tokens=QUERIES)
    qformer = {**LAYERS, "vocab_size": len(reader), "cross_attention_frequency": 1}
    config = InstructBlipConfig(
        vision_config={**LAYERS, "image_size": 32, "patch_size": 8},
        qformer_config={**qformer, "max_position_embeddings": 96},
        text_config=text(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = InstructBlipForConditionalGeneration(config)
    scatter_weights(model, seed, 2.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
