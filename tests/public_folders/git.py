"""Build tiny GIT folders."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM

from public_folders.tokenizers import save_square_processor, save_word_piece, scatter_weights


def build_git(folder: Path, seed: int, *, frames: int | None = None) -> None:
    tokenizer = save_word_piece(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    config = GitConfig(
        vision_config=vision, max_position_embeddings=64, num_image_with_embedding=frames,
        **sizes, **ids,
    )  # fmt: skip
    model = GitForCausalLM(config)
    scatter_weights(model, seed)
    model.output.bias.data[3] = 3  # so that some texts are short
    model.save_pretrained(folder)
    save_square_processor(folder, 32, CLIPImageProcessor)
