"""What a stage will cost, from one trial step of each data set: time, memory, arithmetic.

Nothing of the trial stays: no weight moves, and all randomness of a run is drawn anew each step.
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

from captioner.data.collate import Batch, collate
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
"""TFLOP/s of dense 16-bit matrix products, from the vendor's data sheets."""


@dataclass(frozen=True)
class CostEstimate:
    """Of one epoch, on one process."""

    steps: int
    seconds: float
    """Validation and reading by other processes not included."""
    flops: float
    """Of forward and backward passes, samples included."""
    memory: int
    """Bytes in use at the end of a forward pass: of the device, or of this process."""
    room: int
    """Bytes that there are for it in all."""

    def describe(self, epochs: int, batch_size: int) -> str:
        """What to expect of so many epochs."""
        each = self.seconds / max(1, self.steps)
        share = self.memory / max(1, self.room)
        line = (
            f"{self.steps} steps an epoch, {each:.2f} s each: about"
            f" {duration(self.seconds * epochs)} for {epochs} epoch(s) without validation;"
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
        """What to log of an epoch that took so long: TFLOP/s, and the share of a known GPU's."""
        found = {"TFLOP/s": self.flops / seconds / 1e12}
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        if peak := peak_of(name):
            found["model FLOPs utilisation"] = found["TFLOP/s"] / peak
        return found


def estimate_cost(
    objective: Objective,
    prepared: Prepared,
    data: ImageDataset,
    batches: EpochBatches,
    accelerator: Accelerator,
) -> CostEstimate | None:
    """Try the first batch of each source that the epoch shows.

    There is no plan under DeepSpeed, whose backward pass is a step.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return None
    order, device = list(batches), accelerator.device
    steps = Counter(keys[0].source for keys in order)
    firsts = {keys[0].source: keys for keys in reversed(order)}
    seconds = flops = memory = room = 0
    train_mode(prepared.model)
    for source, keys in sorted(firsts.items()):
        started = time.perf_counter()
        samples = [data[key] for key in keys]
        batch = collate(samples, question_pad=data.tokenizer.question_tokenizer.pad)
        reading = time.perf_counter() - started
        # All ranks must take part in what gathers.
        if any_rank(accelerator, batch.images is None):
            continue
        batch = batch.to(device)
        with FlopCounterMode(display=False) as counter:
            total = _forward(objective, prepared, batch, accelerator)
            used, room = _memory(device)
            accelerator.backward(total)
        prepared.model.zero_grad()
        _wait(device)
        started = time.perf_counter()
        accelerator.backward(_forward(objective, prepared, batch, accelerator))
        _wait(device)
        seconds += steps[source] * (time.perf_counter() - started + reading)
        prepared.model.zero_grad()
        flops += steps[source] * counter.get_total_flops()
        memory = max(memory, used)
    return CostEstimate(len(order), seconds, flops, memory, room)


def _forward(
    objective: Objective, prepared: Prepared, batch: Batch, accelerator: Accelerator
) -> Tensor:
    """The loss a token."""
    with accelerator.autocast():
        found = objective(prepared.wrapped, batch, full_model=prepared.full_model)
    return found.total / found.tokens


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use, and those that there are."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device), total
    return psutil.Process().memory_info().rss, psutil.virtual_memory().total


def peak_of(name: str) -> float | None:
    """TFLOP/s of a GPU as its driver calls it ("NVIDIA A100-SXM4-40GB"), where it is known."""
    words = name.replace("-", " ").split()
    fits = [key for key in PEAKS if set(key.split()) <= set(words)]
    return PEAKS[max(fits, key=len)] if fits else None


def duration(seconds: float) -> str:
    """In the two largest units: `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
