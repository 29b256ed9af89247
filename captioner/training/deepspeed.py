"""DeepSpeed's ZeRO, stages 1 and 2: its settings, and the state of its optimizer by weight.

ZeRO joins the weights of a group into one flat tensor, of which each rank updates a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_deepspeed_available
from torch import Tensor, nn

from captioner.config import TrainConfig
from captioner.errors import ConfigError
from captioner.extras import install_command

if TYPE_CHECKING:
    from accelerate.utils import DeepSpeedPlugin

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Names of the tensors that AdamW and Adam keep for each weight, besides the number of steps."""


def check(settings: TrainConfig) -> None:
    """Raise ConfigError if DeepSpeed cannot be used."""
    if not is_deepspeed_available():
        raise ConfigError(f"DeepSpeed is not installed; {install_command('deepspeed')}")
    if settings.precision == "fp16":
        raise ConfigError("train.precision=fp16 is not supported with DeepSpeed; use bf16 or no")
    if settings.optimizer == "sgd":
        raise ConfigError("train.optimizer=sgd is not supported with DeepSpeed; use adamw or adam")


def configure(plugin: DeepSpeedPlugin, settings: TrainConfig) -> None:
    """Copy the settings of the run to DeepSpeed; raise ConfigError for an unsupported stage."""
    stage = plugin.zero_stage
    if stage not in (1, 2) or plugin.offload_optimizer_device != "none":
        raise ConfigError(
            f"DeepSpeed: zero_stage {stage} or its offloading is not supported; use zero_stage 1 or"
            " 2 without offloading, or FSDP, which shards the weights as well"
        )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulate,
        "gradient_clipping": settings.clip,
        "torch_autocast": {"enabled": settings.precision == "bf16", "dtype": "bfloat16"},
    }


def unwrap(optimizer: torch.optim.Optimizer) -> Any:
    """Return the ZeRO optimizer behind Accelerate's wrapper, or None if there is none."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if hasattr(inner, "bit16_groups") else None


def optimizer_state(zero: Any) -> Iterator[tuple[nn.Parameter, str, Tensor]]:
    """Yield the optimizer's state as (weight, key, tensor); all ranks must consume all of it."""
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(zero)
    for group, weights in zip(zero.optimizer.param_groups, zero.bit16_groups, strict=True):
        flat = zero.optimizer.state[group["params"][0]]
        for weight in weights if flat else ():
            yield weight, "step", flat["step"]
            for key in MOMENTS:
                yield weight, key, safe_get_full_optimizer_state(weight, key)


def load_optimizer_state(zero: Any, states: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> None:
    """Load the state of the optimizer; each rank keeps its part."""
    from deepspeed.utils import safe_set_full_optimizer_state

    step = max(values["step"] for values in states.values())
    for group in zero.optimizer.param_groups:
        (flat,) = group["params"]
        moments = {key: torch.zeros_like(flat) for key in MOMENTS}
        zero.optimizer.state[flat] = {"step": step.to(flat.device, copy=True), **moments}
    _link(zero)
    for weight, values in states.items():
        for key in MOMENTS:
            safe_set_full_optimizer_state(weight, values[key].to(weight.device), key)


def _link(zero: Any) -> None:
    # DeepSpeed does this after the first step of the first group, when other groups have no state.
    zero._hp_optimizer_states_linked = False
    zero._lazy_init_hp_params_optimizer_state()
