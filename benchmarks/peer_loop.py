"""A plain transformers training loop: the peer that `benchmarks/train.py` compares with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config import Config, ImageConfig
from captioner.data.collate import Batch
from captioner.data.dataset import ImageDataset
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer
from captioner.training.teacher_captions import human_captions


class PeerLoop:
    """The batches and the step of a plain loop over a model of `build_peer`."""

    def __init__(
        self,
        model: Any,
        pairs: Pairs,
        autocast: Callable[[], AbstractContextManager[None]],
        *,
        frozen: bool,
        batch_size: int,
    ) -> None:
        self.model, self.pairs, self.autocast, self.batch_size = model, pairs, autocast, batch_size
        self.model.encoder.requires_grad_(not frozen)
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=5e-4)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches forever."""
        loader = DataLoader(
            self.pairs, self.batch_size, shuffle=True, drop_last=True, collate_fn=pad_pairs
        )
        while True:
            yield from loader

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss per token of pixels and labels."""
        pixels, labels = batch
        loss: Tensor = self.model(pixel_values=pixels, labels=labels).loss
        return loss

    def step(self, batch: tuple[Tensor, Tensor]) -> float:
        """Make a training step; return the loss per token."""
        with self.autocast():
            loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def build_peer(model: Seq2Seq, config: Config, vocab: int, *, dropout: float) -> Any:
    """Return a transformers model with the same parts and weights."""
    from transformers import (
        MBartConfig,
        MBartForCausalLM,
        TimmWrapperConfig,
        TimmWrapperModel,
        VisionEncoderDecoderModel,
    )

    sizes, backbone = config.model, config.model.backbones[0]
    encoder = TimmWrapperConfig(
        architecture=backbone.name, model_args=backbone.args, do_pooling=False
    )
    encoder.hidden_size = model.memory_encoder.projection.in_features
    decoder = MBartConfig(
        vocab_size=vocab,
        max_position_embeddings=sizes.max_length,
        d_model=sizes.width,
        decoder_layers=sizes.decoder_layers,
        decoder_attention_heads=sizes.heads,
        decoder_ffn_dim=sizes.ffn,
        dropout=dropout,
        attention_dropout=0.0,
        scale_embedding=False,
        is_decoder=True,
        add_cross_attention=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    peer = VisionEncoderDecoderModel(
        encoder=TimmWrapperModel(encoder), decoder=MBartForCausalLM(decoder)
    )
    peer.config.decoder_start_token_id, peer.config.pad_token_id = BOS, PAD
    peer.encoder.timm_model.load_state_dict(model.backbone.models[0].state_dict())
    # The projection, positions and norms are those of this project.
    peer.enc_to_dec_proj = type(model.memory_encoder)(
        encoder.hidden_size,
        len(model.memory_encoder.positions),
        width=sizes.width,
        heads=sizes.heads,
        ffn=sizes.ffn,
        layers=0,
        dropout=dropout,
    )
    peer.enc_to_dec_proj.load_state_dict(model.memory_encoder.state_dict())
    state, inner = model.decoder.state_dict(), peer.decoder.model.decoder
    positions = inner.embed_positions.weight.detach().clone()
    positions[2 : 2 + sizes.max_length] = state["embed_positions.weight"]
    inner.load_state_dict(state | {"embed_positions.weight": positions})
    peer.decoder.lm_head.weight = inner.embed_tokens.weight
    return peer


class Pairs(Dataset):
    """One row per caption, with the image read by a transform of timm."""

    def __init__(self, data: ImageDataset, tokenizer: Tokenizer, image: ImageConfig) -> None:
        from timm.data import create_transform

        spec = data.spec
        self.transform = create_transform(
            (3, *spec.size),
            is_training=True,
            mean=spec.mean,
            std=spec.std,
            scale=(image.min_scale, 1.0),
            color_jitter=image.jitter,
            interpolation="bicubic",
        )
        captions = human_captions(data)
        self.rows = [
            (data.images[i], tokenizer.encode(text, max_length=data.texts.max_length))
            for i, texts in captions.items()
            for text in texts
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Tensor, list[int]]:
        path, ids = self.rows[i]
        return self.transform(Image.open(path).convert("RGB")), ids


def pad_pairs(rows: list[tuple[Tensor, list[int]]]) -> tuple[Tensor, Tensor]:
    """Return pixels and labels padded with -100, which the loss ignores."""
    longest = max(len(ids) for _, ids in rows)
    labels = [ids + [-100] * (longest - len(ids)) for _, ids in rows]
    return torch.stack([pixels for pixels, _ in rows]), torch.tensor(labels)


def repeat_images(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return a batch in the form of the peer: each image once per caption."""
    captions, labels = batch.labels.shape[1], batch.labels.flatten(0, 1)
    return batch.images.repeat_interleave(captions, 0), labels.masked_fill(labels == PAD, -100)
