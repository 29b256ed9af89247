"""Loss, parameter groups, learning-rate schedule and moving average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import StageConfig, TrainConfig
from captioner.model.seq2seq import Seq2Seq
from captioner.training.distributed import like


def caption_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Summed cross-entropy of logits (M, V) against the M labels, with label smoothing.

    Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="sum")


def build_optimizer(model: Seq2Seq, config: TrainConfig, stage: StageConfig) -> torch.optim.AdamW:
    """AdamW over what the stage trains; each group keeps its peak rate under `peak`.

    Matrices decay. Vectors (biases, norms) do not, nor do tables, of positions, kinds or words,
    whose rows are added or looked up: one that no text asks for would fade.
    """
    tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    tables -= {model.decoder.embed_tokens.weight}  # the matrix of the logits, too
    rated = [(stage.lr, name, p) for name, p in _behind_backbone(model) if stage.lr]
    if stage.encoder_lr:
        back = blocks_back(model.backbone) if stage.encoder_decay < 1 else {}
        rated += [
            (stage.encoder_lr * stage.encoder_decay ** back.get(name, 0), name, p)
            for name, p in model.backbone.named_parameters()
            if p.requires_grad
        ]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for rate, name, p in rated:
        # What is no layer's `weight` is a table as well: `positions`, `kinds`, timm's `pos_embed`.
        decays = p.ndim > 1 and p not in tables and "weight" in name.rpartition(".")[2]
        groups.setdefault((rate, decays), []).append(p)
    return torch.optim.AdamW(
        [
            {
                "params": params,
                "lr": rate,
                "peak": rate,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (rate, decays), params in groups.items()
        ],
        betas=config.betas,
        fused=True,
    )


def blocks_back(backbone: nn.Module) -> dict[str, int]:
    """How many blocks stand behind each parameter's, as timm divides its models.

    Such rates were proposed by Howard and Ruder (ULMFiT, 2018, section 3.2).
    """
    from timm.models import group_parameters

    found = {}
    for i, model in enumerate(backbone.models):
        blocks = group_parameters(model, model.group_matcher(coarse=False))
        last = max(blocks)
        found |= {f"models.{i}.{name}": last - n for n, some in blocks.items() for name in some}
    return found


def _behind_backbone(model: Seq2Seq) -> Iterable[tuple[str, nn.Parameter]]:
    for name, part in model.named_children():
        if name != "backbone":
            # Adapters leave their encoder as it is.
            yield from ((k, p) for k, p in part.named_parameters() if p.requires_grad)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, stage: StageConfig, *, step: int, steps: int
) -> None:
    """Linear warm-up, then a half cosine down to `final_lr` of the peak.

    Loshchilov and Hutter, SGDR (2017), without restarts.
    """
    warmup = max(1, round(stage.warmup * steps))
    if step < warmup:
        factor = (step + 1) / warmup
    else:
        progress = (step - warmup) / max(1, steps - warmup)
        factor = stage.final_lr + (1 - stage.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class MovingAverage:
    """Exponential moving average of a model's floating-point weights; a decay of 0 is off.

    The decay starts low and rises to `decay`, so that early weights are forgotten soon.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {}
        if decay:
            self.state = {k: v.detach().clone() for k, v in _weights(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights."""
        if not self.decay:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # A frozen weight has nowhere to move to.
        weights = {k: v for k, v in model.named_parameters() if v.requires_grad}
        torch._foreach_lerp_(
            [self.state[k] for k in weights], list(weights.values()), weight=1 - decay
        )

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Lie as the model's weights do, which are shared out now."""
        self.state = {k: like(self.state[k], v) for k, v in _weights(model).items() if self.state}

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within the block, the model has the averaged weights."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        # In place: what shares a model out keeps references to where its weights lie.
        weights = _weights(model)
        for key, averaged in self.state.items():
            present = weights[key].detach().clone()
            weights[key].copy_(averaged)
            averaged.copy_(present)

    def reset(self, model: nn.Module) -> None:
        """Start again from the model's present weights."""
        self.__init__(model, self.decay)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())
