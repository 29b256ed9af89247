"""A frozen backbone's features, computed once and read back from a memory-mapped file.

Shapes: V views, N images, P positions, C channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner.build import feature_shape
from captioner.config import Config, StageConfig
from captioner.data.collate import collate
from captioner.data.dataset import ImageDataset
from captioner.data.sampler import EpochBatches
from captioner.errors import CheckpointError
from captioner.files import check_room, file_digest
from captioner.training.distributed import any_rank

BATCH = 32
TOGETHER = 32
"""Batches that are brought to the disk and noted as done at once: 0.7 GB of the bundled model's."""


def use_cached_features(
    backbone: nn.Module,
    train: ImageDataset,
    val: ImageDataset,
    stage: StageConfig,
    config: Config,
    accelerator: Accelerator,
    stop: Callable[[], None] | None = None,
) -> None:
    """Give both data sets features to serve in the place of pixels; `stop` as below."""
    backbone.eval()
    views = stage.cached_views if stage.augment else 1
    for dataset, count in ((train, views), (val, 1)):
        dataset.features = cached_features(
            backbone,
            dataset,
            views=count,
            folder=Path(config.train.cache),
            accelerator=accelerator,
            stop=stop,
        )


def cached_features(
    backbone: nn.Module,
    dataset: ImageDataset,
    *,
    views: int,
    folder: Path,
    accelerator: Accelerator,
    stop: Callable[[], None] | None = None,
) -> np.ndarray:
    """float16 features (V, N, P, C); view v is what the data set gives in epoch v.

    The file's name is a digest of the images' bytes, of the transform, of the backbone and of the
    precision; a file that is there under that name is complete. The features of an image that does
    not decode are NaN, which the data set serves as an unreadable sample.

    `stop` is called between batches, on all ranks, and may raise; what has been encoded by then is
    kept, and the next call goes on from there. A process that is killed loses TOGETHER batches at
    most. Raises CheckpointError where the disk has no room.
    """
    path = folder / f"{_digest(backbone, dataset, views, accelerator.mixed_precision)}.npy"
    if any_rank(accelerator, not path.exists()):
        _write(path, backbone, dataset, views, accelerator, stop)
    return np.load(path, mmap_mode="c")


@torch.no_grad()
def _write(
    path: Path,
    backbone: nn.Module,
    dataset: ImageDataset,
    views: int,
    accelerator: Accelerator,
    stop: Callable[[], None] | None,
) -> None:
    """Every rank encodes its share of the batches; the file is one, on a disk that all see."""
    rank, world = accelerator.process_index, accelerator.num_processes
    partial, noted = path.with_suffix(".partial"), path.with_suffix(".done")
    order = EpochBatches([range(len(dataset))], BATCH, shuffle=False)
    batches = []
    for view in range(views):
        order.epoch = view
        batches += order
    if accelerator.is_main_process:
        shape = (views, len(dataset), *feature_shape(backbone, dataset.spec))
        _begin(partial, noted, shape, len(batches))
    accelerator.wait_for_everyone()
    out = np.lib.format.open_memmap(partial, "r+")
    done = np.memmap(noted, np.bool_, "r+")
    left = np.flatnonzero(~done)
    accelerator.wait_for_everyone()  # all have read what is left before one adds to it
    together, share, new = len(left) // world, left[rank::world], []
    loader = DataLoader(dataset, batch_sampler=[batches[n] for n in share], collate_fn=collate)
    bar = tqdm(loader, "encoding images once", disable=rank != 0)
    try:
        for i, batch in enumerate(bar):
            if stop and i < together:
                stop()
            view = batches[share[i]][0].epoch
            out[view, [item.index for item in batch.unreadable]] = np.nan
            if batch.images is not None:
                with accelerator.autocast():
                    x = backbone(batch.images.to(accelerator.device))
                out[view, batch.indices] = x.to("cpu", torch.float16).numpy()
            new.append(share[i])
            if len(new) == TOGETHER:
                _note(out, done, new)
    finally:
        _note(out, done, new)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not path.exists():  # another run's
            partial.rename(path)
        noted.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def _begin(partial: Path, noted: Path, shape: tuple[int, ...], batches: int) -> None:
    """Two files: the features, and for each batch whether it is done; as they are, if there."""
    begun = partial.exists() and noted.exists() and noted.stat().st_size == batches
    left = noted.read_bytes().count(0) / batches if begun else 1
    partial.parent.mkdir(parents=True, exist_ok=True)
    if not begun:
        for path in (noted, partial):  # in this order: no note of what is not there
            path.unlink(missing_ok=True)
    try:
        # A mapped file that meets a full disk is no error but the end of the process.
        check_room(partial.parent, int(left * math.prod(shape) * np.dtype(np.float16).itemsize))
    except OSError as error:
        raise CheckpointError(
            f"{partial.parent}: no room for the features: {error};"
            " make some, take another folder (train.cache) or fewer cached_views"
        ) from None
    if not begun:
        np.lib.format.open_memmap(partial, "w+", np.float16, shape).flush()
        np.memmap(noted, np.bool_, "w+", shape=(batches,)).flush()


def _note(out: np.memmap, done: np.memmap, batches: list[int]) -> None:
    """Batches are done once their features are on the disk; empties the list."""
    out.flush()
    done[batches] = True
    done.flush()
    batches.clear()


def _digest(backbone: nn.Module, dataset: ImageDataset, views: int, precision: str) -> str:
    digest = hashlib.sha256()
    # Padding and epsilons are no weights; the modules' own descriptions hold them.
    settings = [str(backbone), precision]
    settings += [repr(dataset.spec), repr(dataset.augmentation), dataset.seed, views]
    digest.update(json.dumps(settings).encode())
    for path in dataset.images:
        try:
            digest.update(file_digest(Path(path)).encode())
        except OSError:
            digest.update(b"missing")
    # What is said about an image, and by whom, decides on whether it may be mirrored.
    digest.update(bytes(dataset.unaugmented))
    for view in range(views):
        digest.update(bytes(dataset.list_flips(view)))
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
