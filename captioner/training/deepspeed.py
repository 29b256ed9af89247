"""DeepSpeed's ZeRO, stages 1 and 2: what its optimiser holds of each weight, and its settings.

It keeps the weights of a group end to end in one flat tensor, of which each rank updates a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_deepspeed_available
from torch import Tensor, nn

from captioner.config import TrainConfig
from captioner.errors import ConfigError

if TYPE_CHECKING:
    from accelerate.utils import DeepSpeedPlugin

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight, beside the number of steps."""


def check(settings: TrainConfig) -> None:
    """ConfigError where there can be no DeepSpeed."""
    if not is_deepspeed_available():
        raise ConfigError("DeepSpeed: not installed; pip install deepspeed")
    if settings.precision == "fp16":
        raise ConfigError("train.precision=fp16: not with DeepSpeed here; take bf16 or no")


def configure(plugin: DeepSpeedPlugin, settings: TrainConfig) -> None:
    """Tell DeepSpeed what the run's own settings say; ConfigError for what is not served."""
    stage = plugin.zero_stage
    if stage not in (1, 2) or plugin.offload_optimizer_device != "none":
        raise ConfigError(
            f"DeepSpeed: zero_stage {stage} or its offloading is not served; take zero_stage 1 or"
            " 2 without, or FSDP, which shards the weights as well"
        )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulate,
        "gradient_clipping": settings.clip,
        "torch_autocast": {"enabled": settings.precision == "bf16", "dtype": "bfloat16"},
    }


def behind(optimizer: torch.optim.Optimizer) -> Any:
    """DeepSpeed's optimiser, where that is what stands behind this one; None elsewhere."""
    found = getattr(optimizer, "optimizer", None)
    return found if hasattr(found, "bit16_groups") else None


def optimizer_state(zero: Any) -> Iterator[tuple[nn.Parameter, str, Tensor]]:
    """Weight, key and whole value of AdamW's state; all ranks must ask for all of it."""
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(zero)
    for group, weights in zip(zero.optimizer.param_groups, zero.bit16_groups, strict=True):
        flat = zero.optimizer.state[group["params"][0]]
        for weight in weights if flat else ():
            yield weight, "step", flat["step"]
            for key in MOMENTS:
                yield weight, key, safe_get_full_optimizer_state(weight, key)


def load_optimizer_state(zero: Any, states: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> None:
    """Put such values back, each rank its part of them."""
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
    # DeepSpeed does so after the first step of the first group, when the others have no state.
    zero._hp_optimizer_states_linked = False
    zero._lazy_init_hp_params_optimizer_state()
