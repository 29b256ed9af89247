"""The builders of all families of public models."""

from __future__ import annotations

from collections.abc import Callable

from public_folders.blip import build_blip, build_blip_vqa
from public_folders.chat import (
    build_gemma3,
    build_idefics3,
    build_llava,
    build_llava_next,
    build_llava_onevision,
    build_qwen2_5_vl,
    build_qwen2_vl,
    build_smolvlm,
)
from public_folders.encoder_decoder import build_encoder_decoder
from public_folders.git import build_git
from public_folders.prompted import (
    build_florence2,
    build_kosmos2,
    build_paligemma,
    build_pix2struct,
    build_pix2struct_vqa,
    build_vilt,
)
from public_folders.query_transformers import build_blip2_opt, build_instructblip_t5

FAMILIES: dict[str, Callable[..., None]] = {
    "BLIP": build_blip,
    "BLIP VQA": build_blip_vqa,
    "GIT": build_git,
    "VisionEncoderDecoder": build_encoder_decoder,
    "BLIP-2": build_blip2_opt,
    "InstructBLIP": build_instructblip_t5,
    "Florence-2": build_florence2,
    "PaliGemma": build_paligemma,
    "Pix2Struct": build_pix2struct,
    "Pix2Struct VQA": build_pix2struct_vqa,
    "Kosmos-2": build_kosmos2,
    "ViLT": build_vilt,
    "LLaVA 1.5": build_llava,
    "LLaVA-NeXT": build_llava_next,
    "LLaVA-OneVision": build_llava_onevision,
    "Gemma 3": build_gemma3,
    "Idefics3": build_idefics3,
    "SmolVLM": build_smolvlm,
    "Qwen2-VL": build_qwen2_vl,
    "Qwen2.5-VL": build_qwen2_5_vl,
}
TRAINED = ("BLIP", "BLIP VQA", "GIT", "VisionEncoderDecoder")
"""Families that `train.py` fine-tunes."""
