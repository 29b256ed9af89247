"""One run on several ranks, whatever starts them and however they share the model.

Alone and under DDP each rank holds all weights. Under FSDP (Zhao et al. 2023, arXiv 2304.11277) it
holds a shard of each, and under DeepSpeed's ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054; stages
1 and 2) all weights and a part of the optimiser's state. Files hold whole tensors by name in every
case, so that a run may go on shared in another way than it began.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore, init_process_group
from torch.distributed.tensor import DTensor, distribute_tensor

from captioner.config import TrainConfig
from captioner.errors import ConfigError
from captioner.model.cpu.processor import has_fast_bfloat16
from captioner.model.seq2seq import Seq2Seq
from captioner.training import deepspeed


def start(settings: TrainConfig, *, unused: bool) -> Accelerator:
    """The Accelerator of a run, as its launcher asks for it; ConfigError where that cannot be.

    With `unused`, there are steps that do not use all weights.
    """
    cpu, with_deepspeed = not torch.accelerator.is_available(), _asked("DEEPSPEED")
    if with_deepspeed:
        deepspeed.check(settings)
    settings = dataclasses.replace(settings, precision=choose_precision(settings.precision))
    if settings.compile and (with_deepspeed or _asked("FSDP")):
        raise ConfigError("train.compile=true: not with FSDP or DeepSpeed; leave out one of them")
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=unused)]
    if with_deepspeed and cpu:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
    _meet_anew("gloo" if cpu else None)
    accelerator = Accelerator(
        # ZeRO's own bfloat16 would round the weights; `zero.configure` asks for autocast.
        mixed_precision="no" if with_deepspeed else settings.precision,
        gradient_accumulation_steps=settings.accumulate,
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=settings.output,
        # Otherwise Accelerate takes each of several CPU processes for the only one.
        cpu=cpu and not with_deepspeed,
        kwargs_handlers=handlers,
    )
    check_world(accelerator.num_processes, os.environ)
    kind = accelerator.distributed_type
    if kind == DistributedType.DEEPSPEED:
        deepspeed.configure(accelerator.state.deepspeed_plugin, settings)
    elif kind == DistributedType.FSDP:
        if not getattr(accelerator, "is_fsdp2", False):
            raise ConfigError(
                "FSDP: version 1 is not served; put fsdp_version: 2 into fsdp_config, as"
                " configs/accelerate/fsdp.yaml does (accelerate 1.6 or newer)"
            )
        plugin = accelerator.state.fsdp_plugin
        # Shards are gathered as they are, and autocast does the rest, as everywhere.
        plugin.mixed_precision_policy = None
        plugin.cpu_ram_efficient_loading = False  # it knows of no buffers, and all ranks have read
    elif _asked("FSDP"):
        raise ConfigError(
            f"FSDP: Accelerate has none for {accelerator.num_processes} process(es) on"
            f" {accelerator.device.type}; start without it, or on several GPUs"
        )
    return accelerator


def choose_precision(precision: str) -> str:
    """Return the autocast type of a run: `auto` is bf16 where the device computes it fast."""
    if precision != "auto":
        return precision
    return "bf16" if _is_bfloat16_fast() else "no"


def precision_warning(precision: str) -> str:
    """Return a line on a setting that makes training slow on this device, or an empty text."""
    if precision != "bf16" or _is_bfloat16_fast():
        return ""
    return (
        "train.precision=bf16: this device has no instructions for bfloat16 and emulates"
        " it slowly; use train.precision=auto"
    )


def check_world(world: int, environ: Mapping[str, str]) -> None:
    """ConfigError where a launcher was asked for more processes than the `world` that there is.

    Where it has but one GPU or none, `accelerate launch --num_processes 2` starts one process and
    says nothing. It then leaves an address to meet at behind, and no rank.
    """
    asked = int(environ.get("WORLD_SIZE", 1))
    launched = "ACCELERATE_MIXED_PRECISION" in environ
    lonely = launched and "MASTER_ADDR" in environ and "LOCAL_RANK" not in environ
    if asked > world or (world == 1 and lonely):
        raise ConfigError(
            f"{asked if asked > world else 'several'} processes were asked for, and {world} is"
            " there: without several GPUs, accelerate launch starts no more; start them with"
            " torchrun --standalone --nproc_per_node N train.py ..."
        )


def restarted() -> bool:
    """Whether torchrun has started this process in the place of one that was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def launch() -> str:
    """What tells one torchrun from another; empty without."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is set on any rank; all must ask."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


def memory_format(accelerator: Accelerator) -> torch.memory_format:
    """How a model's convolutions are to lie."""
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return torch.contiguous_format  # nothing else can be cut
    return torch.channels_last


class Prepared:
    """A model and its optimiser, made ready for the ranks that there are.

    `wrapped` is what the gradient passes, and `model` the same without what is put around it:
    under FSDP its weights are shards, and only `wrapped` can be called.
    """

    def __init__(
        self, accelerator: Accelerator, model: Seq2Seq, optimizer: torch.optim.Optimizer
    ) -> None:
        self._accelerator = accelerator
        self._hollow, self._shell = {}, None
        if accelerator.distributed_type == DistributedType.FSDP:
            self._hollow = {k: _hollow(p) for k, p in model.named_parameters()}
            pairs = zip(model.parameters(), self._hollow.values(), strict=True)
            self._shell = copy.deepcopy(model, {id(p): hollow for p, hollow in pairs})
        self.wrapped, self.optimizer = accelerator.prepare(model, optimizer)
        self.model = accelerator.unwrap_model(self.wrapped)

    @contextmanager
    def full_model(self) -> Iterator[Seq2Seq]:
        """Within the block, a model any of whose methods may be called; all ranks must enter."""
        if self._shell is None:
            yield self.model
            return
        try:
            yield self._filled()
        finally:
            self._shell.load_state_dict(self._hollow, strict=False, assign=True)

    def end(self) -> Seq2Seq:
        """The model, no more prepared; all ranks must ask."""
        model = self.model if self._shell is None else self._filled()
        self._accelerator.free_memory()
        return model

    def _filled(self) -> Seq2Seq:
        weights = {k: gather_tensor(p.detach()) for k, p in self.model.named_parameters()}
        self._shell.load_state_dict(weights, strict=False, assign=True)
        return self._shell


def gather_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this rank may hold a shard; all ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor on another's device, laid out, or cut into shards, as that is."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return torch.empty_like(other, dtype=tensor.dtype).copy_(tensor)


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """The optimiser's state, whole, as `NAME_OF_WEIGHT.KEY`; all ranks must ask for all of it."""
    names = {weight: name for name, weight in model.named_parameters()}
    if behind := deepspeed.behind(optimizer):
        for weight, key, value in deepspeed.optimizer_state(behind):
            yield f"{names[weight]}.{key}", value
        return
    for weight, name in names.items():
        for key, value in optimizer.state.get(weight, {}).items():
            yield f"{name}.{key}", gather_tensor(value)


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_state` gave, however the model is shared out now."""
    found: dict[str, dict[str, Tensor]] = {}
    for path, value in state.items():
        name, _, key = path.rpartition(".")
        found.setdefault(name, {})[key] = value
    weights = dict(model.named_parameters())
    if behind := deepspeed.behind(optimizer):
        states = {weights[name]: values for name, values in found.items()}
        deepspeed.load_optimizer_state(behind, states)
        return
    for name, values in found.items():
        weight = weights[name]
        # The fused step walks through memory, so a moment must lie there as its weight does
        # (channels last), and a file holds it contiguous.
        optimizer.state[weight] = {
            key: place_like(x, weight) if x.shape == weight.shape else x.to(weight.device)
            for key, x in values.items()
        }


def _meet_anew(backend: str | None) -> None:
    """Make the process group of a restart apart from what the lost one has left in the store.

    torchrun's store outlives the processes, and those that follow find the addresses of those
    that are gone (pytorch issue 135712). The count of restarts tells them apart on one node; on
    several it differs, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun does the same.
    """
    environ = os.environ
    shared = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (restarted() and shared and environ.get("GROUP_WORLD_SIZE") == "1"):
        return
    rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    store = TCPStore(environ["MASTER_ADDR"], int(environ["MASTER_PORT"]), world, is_master=False)
    store = PrefixStore(f"restart {environ['TORCHELASTIC_RESTART_COUNT']}", store)
    init_process_group(backend, store=store, rank=rank, world_size=world)


def _is_bfloat16_fast() -> bool:
    if not torch.accelerator.is_available():
        return has_fast_bfloat16()
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()


def _asked(kind: str) -> bool:
    """Whether the launcher asks for it, as `accelerate launch` says it."""
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"


def _hollow(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
