"""Optimizers with parameter groups and layer-wise decay, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captioner.config import StageConfig, TrainConfig
from captioner.training.public_model import CaptionModel, ImageEncoder, PublicModel

STRONG_PENALTY = 0.01
"""An L2 penalty from which a warning is given: with 0.05, Adam learned nothing from captions."""


def build_optimizer(
    model: CaptionModel, config: TrainConfig, stage: StageConfig
) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters that a stage trains.

    It is AdamW (Loshchilov and Hutter, 2019), Adam (Kingma and Ba, 2015), whose weight decay is
    added to the gradient, or stochastic gradient descent with momentum (Sutskever et al., 2013).

    The model must be that of `start_stage`. Each group holds its peak learning rate under the key
    `peak`.

    Weight decay applies to matrices only. It does not apply to vectors (biases, norms), nor to
    embeddings of positions, types or question words: rows of unused tokens would shrink to zero.

    With `encoder_decay` below 1, the learning rate of the backbone decreases from its last block to
    its first (layer-wise learning-rate decay; Howard and Ruder, ULMFiT, 2018, section 3.2).
    """
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    embeddings -= _output_weights(model)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for rate, name, p in rated_parameters(model, stage):
        # Parameters whose name has no "weight" (`positions`, timm's `pos_embed`) are embeddings.
        decays = p.ndim > 1 and p not in embeddings and "weight" in name.rpartition(".")[2]
        groups.setdefault((rate, decays), []).append(p)
    options = [
        {"params": p, "lr": rate, "peak": rate, "weight_decay": config.weight_decay * decays}
        for (rate, decays), p in groups.items()
    ]
    if config.optimizer == "sgd":
        # Not fused: torch's fused SGD fails if a parameter has its first gradient after the first
        # step, as question modules have after a batch of captions.
        return torch.optim.SGD(options, momentum=config.momentum)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(options, betas=config.betas, fused=True)


def penalty_warning(config: TrainConfig) -> str:
    """Return a warning if the weight decay is a strong L2 penalty, or an empty string."""
    if config.optimizer == "adamw" or config.weight_decay < STRONG_PENALTY:
        return ""
    return (
        f"train.weight_decay={config.weight_decay:g} is an L2 penalty for"
        f" train.optimizer={config.optimizer}, and can prevent learning; set train.weight_decay=0"
    )


def _output_weights(model: CaptionModel) -> set[Tensor]:
    """Return the weights of output projections, which may also be token embeddings."""
    if isinstance(model, PublicModel):
        return model.output_weights
    return {model.decoder.embed_tokens.weight}


def rated_parameters(
    model: CaptionModel, stage: StageConfig
) -> Iterator[tuple[float, str, nn.Parameter]]:
    """Yield the peak learning rate, name and value of each parameter to train."""
    backbones = model.backbones()
    if stage.lr:
        in_backbones = {id(p) for backbone in backbones for p in backbone.parameters()}
        for _, part in model.named_children():
            for name, p in part.named_parameters():
                # An encoder with LoRA adapters is frozen itself.
                if p.requires_grad and id(p) not in in_backbones:
                    yield stage.lr, name, p
    for backbone in backbones if stage.encoder_lr else ():
        distances = distances_to_output(backbone) if stage.encoder_decay < 1 else {}
        for name, p in backbone.named_parameters():
            if p.requires_grad:
                yield stage.encoder_lr * stage.encoder_decay ** distances.get(name, 0), name, p


def distances_to_output(backbone: nn.Module) -> dict[str, int]:
    """Return how many blocks follow the block of each parameter, as timm divides its models."""
    if isinstance(backbone, ImageEncoder):
        return backbone.distances_to_output()
    from timm.models import group_parameters

    distances: dict[str, int] = {}
    members: Any = backbone.models
    for i, model in enumerate(members):
        blocks = group_parameters(model, model.group_matcher(coarse=False))
        for n, names in blocks.items():
            distances |= {f"models.{i}.{name}": max(blocks) - n for name in names}
    return distances


def set_learning_rate(
    optimizer: torch.optim.Optimizer, stage: StageConfig, *, step: int, steps: int
) -> None:
    """Set the learning rate of a step: linear warm-up, then a cosine down to `final_lr`.

    The cosine is that of Loshchilov and Hutter, SGDR (2017), without restarts. `step` counts from
    0; `steps` is their number in the stage.
    """
    warmup = max(1, round(stage.warmup * steps))
    if step < warmup:
        factor = (step + 1) / warmup
    else:
        progress = (step - warmup) / max(1, steps - warmup)
        factor = stage.final_lr + (1 - stage.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
