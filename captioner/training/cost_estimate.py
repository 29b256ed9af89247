"""Estimate the time, memory and arithmetic of a stage from one trial step of each data set.

The trial changes nothing: no weight is updated, and every step of a run seeds the generators.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from captioner.data.collate import Batch, collate_for
from captioner.data.dataset import ImageDataset
from captioner.data.sampler import EpochBatches
from captioner.training.distributed import Prepared, any_rank
from captioner.training.loss import Objective
from captioner.training.stage import train_mode

PEAKS = {
    "A10": 125,
    "A100": 312,
    "B200": 2250,
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "L4": 121,
    "L40S": 362,
    "RTX 3090": 71,
    "RTX 4090": 165,
    "T4": 65,
    "V100": 125,
}
"""Peak TFLOP/s of dense 16-bit matrix products, from the vendor's data sheets."""


@dataclass(frozen=True)
class CostEstimate:
    """The cost of one epoch on one process."""

    steps: int
    seconds: float
    """Without validation, and without reading in other processes."""
    flops: float
    """Operations of the forward and backward passes, sampling included."""
    memory: int
    """Bytes in use after a forward pass, on the device or in this process."""
    room: int
    """Bytes that the device or the machine has."""

    def describe(self, epochs: int, batch_size: int) -> str:
        """Return a line on the cost of some epochs, with advice on the batch size."""
        per_step = self.seconds / max(1, self.steps)
        share = self.memory / max(1, self.room)
        line = (
            f"{self.steps} steps an epoch, {per_step:.2f} s each: about"
            f" {format_duration(self.seconds * epochs)} for {epochs} epoch(s) without validation;"
            f" {self.memory / 1e9:.1f} of {self.room / 1e9:.0f} GB at {batch_size} images a step"
        )
        if share > 0.9:
            line += (
                "; that is nearly all: a smaller train.batch_size with train.accumulate is safer"
            )
        elif torch.cuda.is_available() and share < 0.45:
            line += f"; train.batch_size={int(0.9 / share) * batch_size} would fit"
        return line

    def measure_speed(self, seconds: float, device: torch.device) -> dict[str, float]:
        """Return the TFLOP/s of an epoch that took `seconds`, and its share of a GPU's peak."""
        speed = {"TFLOP/s": self.flops / seconds / 1e12}
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        if peak := peak_of(name):
            speed["model FLOPs utilisation"] = speed["TFLOP/s"] / peak
        return speed


def estimate_cost(
    objective: Objective,
    prepared: Prepared,
    data: ImageDataset,
    batches: EpochBatches,
    accelerator: Accelerator,
) -> CostEstimate | None:
    """Measure one step on the first batch of each source; all ranks must call this.

    Returns None under DeepSpeed, whose backward pass updates the weights.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return None
    order, device = list(batches), accelerator.device
    steps = Counter(keys[0].source for keys in order)
    firsts = {keys[0].source: keys for keys in reversed(order)}
    seconds, flops, memory, room = 0.0, 0.0, 0, 0
    train_mode(prepared.model)
    for source, keys in sorted(firsts.items()):
        started = time.perf_counter()
        samples = [data[key] for key in keys]
        batch = collate_for(data.tokenizer)(samples)
        reading = time.perf_counter() - started
        # All ranks must take part in a step.
        if any_rank(accelerator, not batch.is_readable):
            continue
        batch = batch.to(device)
        with FlopCounterMode(display=False) as counter:
            loss = _forward(objective, prepared, batch, accelerator)
            used, room = _memory(device)
            accelerator.backward(loss)
        prepared.model.zero_grad()
        # The second step is timed, since the first one may compile or allocate.
        _synchronize(device)
        started = time.perf_counter()
        accelerator.backward(_forward(objective, prepared, batch, accelerator))
        _synchronize(device)
        seconds += steps[source] * (time.perf_counter() - started + reading)
        prepared.model.zero_grad()
        flops += steps[source] * counter.get_total_flops()
        memory = max(memory, used)
    return CostEstimate(len(order), seconds, flops, memory, room)


def _forward(
    objective: Objective, prepared: Prepared, batch: Batch, accelerator: Accelerator
) -> Tensor:
    """Return the loss per token."""
    with accelerator.autocast():
        loss = objective(prepared.wrapped, batch, full_model=prepared.full_model)
    return loss.total / loss.tokens


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _memory(device: torch.device) -> tuple[int, int]:
    """Return the bytes in use and the bytes that there are."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device), total
    return psutil.Process().memory_info().rss, psutil.virtual_memory().total


def peak_of(name: str) -> float | None:
    """Return the peak TFLOP/s of a GPU with a name such as "NVIDIA A100-SXM4-40GB", or None."""
    words = name.replace("-", " ").split()
    matches = [key for key in PEAKS if set(key.split()) <= set(words)]
    return PEAKS[max(matches, key=len)] if matches else None


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
