"""Training on one or several processes: one device, DDP, FSDP or DeepSpeed.

On one device and under DDP, each rank holds all weights. Under FSDP (Zhao et al. 2023, arXiv
2304.11277) it holds a shard of each weight; under DeepSpeed's ZeRO (Rajbhandari et al. 2020, arXiv
1910.02054; stages 1 and 2) all weights and a part of the optimizer's state. Saved files always hold
whole tensors by name, so that a run can be resumed under another of these schemes.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import DistributedType
from torch import Tensor, nn

# torch imports these names without declaring them as exports.
from torch.distributed import PrefixStore, TCPStore, init_process_group  # type: ignore[attr-defined]
from torch.distributed.tensor import DTensor, distribute_tensor

from captioner.config import TrainConfig
from captioner.errors import ConfigError
from captioner.model.cpu.processor import has_fast_bfloat16
from captioner.training import deepspeed
from captioner.training.public_model import CaptionModel

Precision = Literal["auto", "no", "bf16", "fp16"]


def start(settings: TrainConfig, *, unused: bool) -> Accelerator:
    """Create the Accelerator of a run, in the way that the launcher requests.

    With `unused`, some steps do not use all weights. Raises ConfigError if the settings and the
    launcher do not fit together.
    """
    is_cpu, is_deepspeed = not torch.accelerator.is_available(), _is_requested("DEEPSPEED")
    if is_deepspeed:
        deepspeed.check(settings)
    settings = dataclasses.replace(settings, precision=choose_precision(settings.precision))
    if settings.compile and (is_deepspeed or _is_requested("FSDP")):
        raise ConfigError("train.compile=true is not supported with FSDP or DeepSpeed; disable one")
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=unused)]
    if is_deepspeed and is_cpu:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
    _isolate_restart("gloo" if is_cpu else None)
    accelerator = Accelerator(
        # ZeRO's own bfloat16 would round the weights; `deepspeed.configure` sets autocast instead.
        mixed_precision="no" if is_deepspeed else settings.precision,
        gradient_accumulation_steps=settings.accumulate,
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=settings.output,
        # Otherwise each of several CPU processes would run as a single process.
        cpu=is_cpu and not is_deepspeed,
        kwargs_handlers=handlers,
    )
    check_world(accelerator.num_processes, os.environ)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        deepspeed.configure(accelerator.state.deepspeed_plugin, settings)
    elif accelerator.distributed_type == DistributedType.FSDP:
        _configure_fsdp(accelerator)
    elif _is_requested("FSDP"):
        raise ConfigError(
            f"FSDP: Accelerate has none for {accelerator.num_processes} process(es) on"
            f" {accelerator.device.type}; start without it, or on several GPUs"
        )
    return accelerator


def check_whole(accelerator: Accelerator, start: str) -> None:
    """Raise ConfigError if the ranks share the weights of a transformers model."""
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        kind = accelerator.distributed_type.value
        raise ConfigError(
            f"train.start={start}: a transformers model cannot be trained with {kind}; launch the"
            " run without it"
        )


def _configure_fsdp(accelerator: Accelerator) -> None:
    if not getattr(accelerator, "is_fsdp2", False):
        raise ConfigError(
            "FSDP: version 1 is not supported; put fsdp_version: 2 into fsdp_config, as"
            " configs/accelerate/fsdp.yaml does (accelerate 1.6 or newer)"
        )
    plugin = accelerator.state.fsdp_plugin
    # Shards are gathered in float32; autocast chooses the types, as without FSDP.
    plugin.mixed_precision_policy = None
    # It does not handle buffers, and every rank has loaded the weights already.
    plugin.cpu_ram_efficient_loading = False


def choose_precision(precision: Precision) -> Precision:
    """Return the autocast type of a run: `auto` is bf16 if the device computes it fast."""
    if precision != "auto":
        return precision
    return "bf16" if _is_bfloat16_fast() else "no"


def precision_warning(precision: Precision) -> str:
    """Return a warning if the setting makes training slow on this device, or an empty string."""
    if precision != "bf16" or _is_bfloat16_fast():
        return ""
    return (
        "train.precision=bf16: this device has no instructions for bfloat16 and emulates it slowly;"
        " use train.precision=auto"
    )


def check_world(world: int, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if there are fewer processes than the launcher was asked for.

    On a machine with at most one GPU, `accelerate launch --num_processes 2` silently starts a
    single process. It sets the address of the process group then, but no rank.
    """
    requested = int(environ.get("WORLD_SIZE", 1))
    launched = "ACCELERATE_MIXED_PRECISION" in environ
    alone = launched and "MASTER_ADDR" in environ and "LOCAL_RANK" not in environ
    if requested > world or (world == 1 and alone):
        raise ConfigError(
            f"{requested if requested > world else 'several'} processes were requested, and"
            f" {world} was started: without several GPUs, accelerate launch starts no more; start"
            " them with torchrun --standalone --nproc_per_node N train.py ..."
        )


def restarted() -> bool:
    """Return whether torchrun has started this process to replace one that failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def launch_id() -> str:
    """Return the identifier of the torchrun that started this process, or an empty string."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """Return whether the flag is set on any rank; all ranks must call this."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


def memory_format(accelerator: Accelerator) -> torch.memory_format:
    """Return the memory format of the convolutions of a model."""
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return torch.contiguous_format  # the only one that can be sharded
    return torch.channels_last


class Prepared:
    """A model and its optimizer, wrapped for the ranks.

    `wrapped` is what the gradient passes through. `model` is the same without the wrapper; under
    FSDP its weights are shards, and only `wrapped` can be called.
    """

    def __init__(
        self, accelerator: Accelerator, model: CaptionModel, optimizer: torch.optim.Optimizer
    ) -> None:
        self._accelerator = accelerator
        self._meta: dict[str, nn.Parameter] = {}
        self._copy: CaptionModel | None = None
        if accelerator.distributed_type == DistributedType.FSDP:
            # A copy without memory, whose weights `full_model` gathers.
            self._meta = {k: _on_meta(p) for k, p in model.named_parameters()}
            pairs = zip(model.parameters(), self._meta.values(), strict=True)
            memo: dict[int, Any] = {id(p): meta for p, meta in pairs}
            self._copy = copy.deepcopy(model, memo)
        self.wrapped, self.optimizer = accelerator.prepare(model, optimizer)
        self.model: CaptionModel = accelerator.unwrap_model(self.wrapped)

    @contextmanager
    def full_model(self) -> Iterator[CaptionModel]:
        """Give a model with all weights and callable methods; all ranks must enter the block."""
        if self._copy is None:
            yield self.model
            return
        try:
            yield self._gather(self._copy)
        finally:
            self._copy.load_state_dict(self._meta, strict=False, assign=True)

    def end(self) -> CaptionModel:
        """Return the model without wrapper and with all weights; all ranks must call this."""
        model = self.model if self._copy is None else self._gather(self._copy)
        self._accelerator.free_memory()
        return model

    def _gather(self, model: CaptionModel) -> CaptionModel:
        weights = {k: gather_tensor(p.detach()) for k, p in self.model.named_parameters()}
        model.load_state_dict(weights, strict=False, assign=True)
        return model


def gather_tensor(tensor: Tensor) -> Tensor:
    """Return a whole tensor, of which this rank may hold a shard; all ranks must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor with the device and the memory format, or the shards, of another."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return torch.empty_like(other, dtype=tensor.dtype).copy_(tensor)


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """Yield the optimizer's state as (`WEIGHT.KEY`, tensor); all ranks must consume all of it."""
    names = {weight: name for name, weight in model.named_parameters()}
    if zero := deepspeed.unwrap(optimizer):
        for weight, key, value in deepspeed.optimizer_state(zero):
            yield f"{names[weight]}.{key}", value
        return
    for weight, name in names.items():
        for key, value in optimizer.state.get(weight, {}).items():
            yield f"{name}.{key}", gather_tensor(value)


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Load what `optimizer_state` gave, however the model is sharded now."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for path, value in state.items():
        name, _, key = path.rpartition(".")
        by_name.setdefault(name, {})[key] = value
    weights = dict(model.named_parameters())
    if zero := deepspeed.unwrap(optimizer):
        states = {weights[name]: values for name, values in by_name.items()}
        deepspeed.load_optimizer_state(zero, states)
        return
    for name, values in by_name.items():
        weight = weights[name]
        # A fused optimizer walks through memory linearly, so that moments need the memory format of
        # their weight (channels last); tensors in files are contiguous.
        optimizer.state[weight] = {
            key: place_like(x, weight) if x.shape == weight.shape else x.to(weight.device)
            for key, x in values.items()
        }


def _isolate_restart(backend: str | None) -> None:
    """Use separate keys in torchrun's store for the process group of a restarted process.

    The store outlives the processes, so the new ones would find the addresses of the failed ones
    (pytorch issue 135712). The number of restarts distinguishes them on a single node; on several
    nodes it differs, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun has the same effect.
    """
    environ = os.environ
    shared = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (restarted() and shared and environ.get("GROUP_WORLD_SIZE") == "1"):
        return
    rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    store = TCPStore(address, port, world, is_master=False)
    count = environ["TORCHELASTIC_RESTART_COUNT"]
    own = PrefixStore(f"restart {count}", store)
    init_process_group(backend, store=own, rank=rank, world_size=world)


def _is_bfloat16_fast() -> bool:
    if not torch.accelerator.is_available():
        return has_fast_bfloat16()
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()


def _is_requested(kind: str) -> bool:
    """Return whether `accelerate launch` has requested FSDP or DEEPSPEED."""
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"


def _on_meta(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
