"""Build tiny folders of chat models: LLaVA, Gemma 3, Idefics3, SmolVLM and Qwen-VL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers.processors import TemplateProcessing

from public_folders.tokenizers import save_byte_level, scatter_weights

USER, END = "<|user|>", "<|end|>"
TEMPLATE = (
    "{{% for message in messages %}}<|user|>{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{{% endfor %}}<|end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|user|>\nreply:{{% endif %}}"
)
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4}
IMAGE, PATCH = 32, 8
GRIDS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]


def build_llava(folder: Path, seed: int, *, ends: Sequence[str] = (END,)) -> None:
    tokenizer = _save_tokenizer(folder, "<image>", begins=True)
    parts = {"image_token_index": _id(tokenizer, "<image>"), "vision_config": _clip()}
    config = transformers.LlavaConfig(text_config=_text(tokenizer, "llama"), **parts)
    _save_model(transformers.LlavaForConditionalGeneration(config), folder, tokenizer, seed, ends)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}
    )
    transformers.LlavaProcessor(images, tokenizer, **_llava_options()).save_pretrained(folder)


def build_llava_next(folder: Path, seed: int) -> None:
    tokenizer = _save_tokenizer(folder, "<image>", begins=True)
    parts = {"image_token_index": _id(tokenizer, "<image>"), "vision_config": _clip()}
    parts |= {"image_grid_pinpoints": GRIDS, "text_config": _text(tokenizer, "mistral")}
    model = transformers.LlavaNextForConditionalGeneration(transformers.LlavaNextConfig(**parts))
    _save_model(model, folder, tokenizer, seed)
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE},
        image_grid_pinpoints=GRIDS,
    )  # fmt: skip
    transformers.LlavaNextProcessor(images, tokenizer, **_llava_options()).save_pretrained(folder)


def build_llava_onevision(folder: Path, seed: int) -> None:
    tokenizer = _save_tokenizer(folder, "<image>", "<video>")
    vision = {"model_type": "siglip_vision_model", **_vision(), "vision_use_head": False}
    parts = {"image_token_index": _id(tokenizer, "<image>"), "vision_config": vision}
    parts |= {"video_token_index": _id(tokenizer, "<video>"), "image_grid_pinpoints": GRIDS}
    parts |= {"text_config": _text(tokenizer, "qwen2"), "vision_aspect_ratio": "anyres_max_2"}
    model = transformers.LlavaOnevisionForConditionalGeneration(
        transformers.LlavaOnevisionConfig(**parts)
    )
    _save_model(model, folder, tokenizer, seed)
    size = {"height": IMAGE, "width": IMAGE}
    transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=GRIDS),
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(IMAGE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",
        chat_template=TEMPLATE.format(image="<image>"),
    ).save_pretrained(folder)


def build_gemma3(folder: Path, seed: int, *, window: int = 8) -> None:
    names = {"boi_token": "<start>", "eoi_token": "<stop>", "image_token": "<soft>"}
    tokenizer = _save_tokenizer(folder, begins=True, named=names)
    text = {**_text(tokenizer, "gemma3_text"), "head_dim": 8, "sliding_window": window}
    text |= {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8}
    text |= {"tie_word_embeddings": False}
    vision = {"model_type": "siglip_vision_model", **_vision(), "vision_use_head": False}
    keys = {"boi_token": "boi_token_index", "eoi_token": "eoi_token_index"}
    keys |= {"image_token": "image_token_index"}
    ids = {key: _id(tokenizer, names[name]) for name, key in keys.items()}
    parts = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    config = transformers.Gemma3Config(**parts, **ids, tie_word_embeddings=False)
    model = transformers.Gemma3ForConditionalGeneration(config)
    _save_model(model, folder, tokenizer, seed)
    images = transformers.Gemma3ImageProcessor(size={"height": IMAGE, "width": IMAGE})
    template = "<s>" + TEMPLATE.format(image="<start>")
    transformers.Gemma3Processor(
        images, tokenizer, chat_template=template, image_seq_length=4
    ).save_pretrained(folder)


def build_idefics3(folder: Path, seed: int) -> None:
    _build_idefics(folder, seed, "Idefics3")


def build_smolvlm(folder: Path, seed: int) -> None:
    _build_idefics(folder, seed, "SmolVLM")


def _build_idefics(folder: Path, seed: int, name: str) -> None:
    added = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    added += [f"<row_{y + 1}_col_{x + 1}>" for y in range(4) for x in range(4)]
    tokenizer = _save_tokenizer(folder, *added)
    kind = "idefics3_vision" if name == "Idefics3" else "smolvlm_vision"
    config = getattr(transformers, f"{name}Config")(
        text_config=_text(tokenizer, "llama"), vision_config={"model_type": kind, **_vision()},
        image_token_id=_id(tokenizer, "<image>"), scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    _save_model(model, folder, tokenizer, seed)
    limits = {"size": {"longest_edge": 2 * IMAGE}, "max_image_size": {"longest_edge": IMAGE}}
    images = getattr(transformers, f"{name}ImageProcessor")(**limits)
    parts = [images, tokenizer]
    if name == "SmolVLM":
        parts.append(transformers.SmolVLMVideoProcessor(**limits))
    getattr(transformers, f"{name}Processor")(
        *parts, image_seq_len=4, chat_template=TEMPLATE.format(image="<image>")
    ).save_pretrained(folder)


def build_qwen2_vl(folder: Path, seed: int) -> None:
    sizes = {"embed_dim": 32, "hidden_size": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    _build_qwen(folder, seed, "Qwen2VL", sizes)


def build_qwen2_5_vl(folder: Path, seed: int) -> None:
    sizes = {"hidden_size": 32, "out_hidden_size": 32, "depth": 2, "num_heads": 4}
    sizes |= {"intermediate_size": 48, "window_size": 16, "fullatt_block_indexes": [1]}
    _build_qwen(folder, seed, "Qwen2_5_VL", sizes)


def _build_qwen(folder: Path, seed: int, name: str, sizes: dict[str, Any]) -> None:
    added = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = _save_tokenizer(folder, *added)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {key: _id(tokenizer, token) for key, token in zip(names, added, strict=True)}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1000.0}
    text = {**_text(tokenizer, None), "rope_parameters": rope, **ids}
    vision = {**sizes, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **ids)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    _save_model(model, folder, tokenizer, seed)
    limits = {"patch_size": 4, "merge_size": 2}
    limits |= {"size": {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}}
    getattr(transformers, f"{name}Processor")(
        transformers.Qwen2VLImageProcessor(**limits),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**limits),
        chat_template=TEMPLATE.format(image="<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)


def _save_tokenizer(
    folder: Path, *added: str, begins: bool = False, named: dict[str, str] | None = None
) -> Any:
    """Save a byte-level tokenizer; with `begins`, it writes `<s>` at the start."""
    named = named or {}
    tokenizer = save_byte_level(folder, USER, END, "<s>", *added, *named.values())
    tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token = "<|endoftext|>", "<s>", END
    if begins:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", _id(tokenizer, "<s>"))]
        )
    if named:
        tokenizer.save_pretrained(folder)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
            folder, model_specific_special_tokens=named
        )
    return tokenizer


def _id(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _text(tokenizer: Any, kind: str | None) -> dict[str, Any]:
    """Return the configuration of a language model."""
    ids = {"pad_token_id": 0, "bos_token_id": _id(tokenizer, "<s>")}
    ids |= {"eos_token_id": _id(tokenizer, END), "vocab_size": len(tokenizer)}
    config = {**SIZES, **HEADS, **ids, "num_key_value_heads": 2, "max_position_embeddings": 512}
    return config if kind is None else {"model_type": kind, **config}


def _vision() -> dict[str, Any]:
    return {**SIZES, **HEADS, "image_size": IMAGE, "patch_size": PATCH}


def _clip() -> dict[str, Any]:
    return {"model_type": "clip_vision_model", **_vision(), "projection_dim": 32}


def _llava_options() -> dict[str, Any]:
    return {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": TEMPLATE.format(image="<image>\n"),
    }


def _save_model(
    model: Any, folder: Path, tokenizer: Any, seed: int, ends: Sequence[str] = (END,)
) -> None:
    """Save a model with random weights, whose texts end before the maximum length at times."""
    scatter_weights(model, seed, 2.0)
    ids = [_id(tokenizer, end) for end in ends]
    with torch.no_grad():
        model.get_output_embeddings().weight[ids] *= 2
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ids if len(ids) > 1 else ids[0], pad_token_id=0
    )
    model.save_pretrained(folder)
