"""Build tiny Florence-2, PaliGemma, Kosmos-2, Pix2Struct and ViLT folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    BartConfig,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructImageProcessor,
    Pix2StructProcessor,
    SiglipImageProcessor,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltImageProcessor,
    ViltProcessor,
)

from public_folders.tokenizers import save_unigram, save_word_piece, scatter_weights

IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
LAYERS = {**SIZES, "num_hidden_layers": 2}
KOSMOS_QUERIES = 4
ANSWERS = ["yes", "no", "red", "2", "t-shirt", "black and white", "don't know"]


def build_florence2(folder: Path, seed: int) -> None:
    save_unigram(folder, "<image>")
    tokenizer = AutoTokenizer.from_pretrained(folder, image_token="<image>")
    ids = {**IDS, "decoder_start_token_id": 1, "forced_bos_token_id": 3, "forced_eos_token_id": 1}
    layers = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in
              (("layers", 2), ("ffn_dim", 48), ("attention_heads", 4))}  # fmt: skip
    text = BartConfig(
        **layers, **ids, d_model=32, vocab_size=len(tokenizer), max_position_embeddings=64
    )
    vision = {
        "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
        "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 4],
        "num_groups": [2, 4], "window_size": 4, "projection_dim": 32,
    }  # fmt: skip
    place = tokenizer.convert_tokens_to_ids("<image>")
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=place)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.update(**ids, no_repeat_ngram_size=3)
    images = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    images.image_seq_length = 17
    _save(folder, seed, model, Florence2Processor(images, tokenizer))


def build_paligemma(folder: Path, seed: int) -> None:
    _build_paligemma(folder, seed, {"model_type": "gemma"})


def build_paligemma2(folder: Path, seed: int) -> None:
    more = {"model_type": "gemma2", "sliding_window": 8, "query_pre_attn_scalar": 8}
    _build_paligemma(folder, seed, more)


def _build_paligemma(folder: Path, seed: int, language: dict[str, Any]) -> None:
    tokenizer = save_unigram(folder)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)
    text = {**LAYERS, **IDS, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer)}
    config = PaliGemmaConfig(
        vision_config={
            **LAYERS, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={**text, **language, "max_position_embeddings": 128},
        projection_dim=32,
        hidden_size=32,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
        **IDS,
    )  # fmt: skip
    _save(folder, seed, PaliGemmaForConditionalGeneration(config), processor)


def build_kosmos2(folder: Path, seed: int) -> None:
    tokenizer = save_unigram(folder)
    images = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    processor = Kosmos2Processor(images, tokenizer, num_patch_index_tokens=4)
    text = {"embed_dim": 32, "layers": 2, "ffn_dim": 48, "attention_heads": 4}
    text |= {"tie_word_embeddings": False, "scale_embedding": False}
    config = Kosmos2Config(
        text_config={**text, **IDS, "vocab_size": len(tokenizer), "max_position_embeddings": 128},
        vision_config={**LAYERS, "image_size": 32, "patch_size": 8},
        latent_query_num=KOSMOS_QUERIES,
        tie_word_embeddings=False,
    )
    _save(folder, seed, Kosmos2ForConditionalGeneration(config), processor, 3.0)


def build_pix2struct(folder: Path, seed: int, *, is_vqa: bool = False) -> None:
    tokenizer = save_unigram(folder)
    size = {"height": 4, "width": 4}
    images = Pix2StructImageProcessor(patch_size=size, max_patches=20, is_vqa=is_vqa)
    text = {"hidden_size": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    vision = {"hidden_size": 32, "patch_embed_hidden_size": 48, "d_ff": 48, "d_kv": 8}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 4, "seq_len": 64}
    text |= {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    config = Pix2StructConfig(text_config=text, vision_config=vision, is_vqa=is_vqa)
    model = Pix2StructForConditionalGeneration(config)
    _save(folder, seed, model, Pix2StructProcessor(images, tokenizer))


def build_pix2struct_vqa(folder: Path, seed: int) -> None:
    build_pix2struct(folder, seed, is_vqa=True)


def build_vilt(folder: Path, seed: int) -> None:
    tokenizer = save_word_piece(folder)
    images = ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    config = ViltConfig(
        **LAYERS, vocab_size=len(tokenizer), image_size=32, patch_size=8, max_image_length=-1,
        id2label=dict(enumerate(ANSWERS)), label2id={a: i for i, a in enumerate(ANSWERS)},
    )  # fmt: skip
    _save(folder, seed, ViltForQuestionAnswering(config), ViltProcessor(images, tokenizer))


def _save(folder: Path, seed: int, model: Any, processor: Any, gain: float = 2.0) -> None:
    scatter_weights(model, seed, gain)
    if (output := model.get_output_embeddings()) is not None:
        output.weight.data[0] = 0  # padding is never generated: Kosmos-2 gives it no position
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
