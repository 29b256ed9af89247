"""Cache of a frozen backbone's features: computed once, then read from a memory-mapped file.

Shapes: V views, N images, P positions, C channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner.build import feature_shape
from captioner.data.collate import collate
from captioner.data.dataset import ImageDataset, Key
from captioner.data.duplicates import content_digest
from captioner.data.sampler import EpochBatches
from captioner.errors import CheckpointError
from captioner.files import check_room
from captioner.training.distributed import any_rank

BATCH = 32
TOGETHER = 32
"""Batches between two flushes to the disk: 0.7 GB with the bundled model."""
Stop = Callable[[], None]


def cached_features(
    backbone: nn.Module,
    dataset: ImageDataset,
    *,
    views: int,
    folder: Path,
    accelerator: Accelerator,
    sources: Sequence[int] | None = None,
    stop: Stop | None = None,
) -> np.ndarray[Any, Any]:
    """Return the features of a data set, from a file that is written if there is none.

    The name of the file is a digest of the images' content, the transform, the backbone and the
    precision. A file under that name is always complete. View v is what the data set gives in epoch
    v. Images without a row of one of the `sources` are not encoded: their features are zero, for
    which most file systems reserve no space. `stop` is called between batches on all ranks; it may
    raise. The features so far are kept, and the next call continues from them. A killed process
    loses `TOGETHER` batches at most.

    Returns:
        float16 (V, N, P, C). The features of an image that cannot be decoded are NaN, which the
        data set returns as an `UnreadableImage`.

    Raises:
        CheckpointError: There is not enough space on the disk.
    """
    images = _select_images(dataset, sources)
    if not images:  # an empty file cannot be mapped
        return np.zeros((views, len(dataset), *feature_shape(backbone, dataset.spec)), np.float16)
    path = folder / f"{_digest(backbone, dataset, images, views, accelerator.mixed_precision)}.npy"
    if any_rank(accelerator, not path.exists()):
        _write(path, backbone, dataset, images, views, accelerator, stop)
    features: np.ndarray[Any, Any] = np.load(path, mmap_mode="c")
    return features


def _select_images(dataset: ImageDataset, sources: Sequence[int] | None) -> Sequence[int]:
    if sources is None:
        return range(len(dataset))
    return sorted({index for source in sources for index in dataset.select_images(source)})


@torch.no_grad()
def _write(
    path: Path,
    backbone: nn.Module,
    dataset: ImageDataset,
    images: Sequence[int],
    views: int,
    accelerator: Accelerator,
    stop: Stop | None,
) -> None:
    """Write a file of features, each rank its share of the batches, on a disk that all share."""
    partial, marks = path.with_suffix(".partial"), path.with_suffix(".done")
    batches = _batches(images, views)
    if accelerator.is_main_process:
        grid = feature_shape(backbone, dataset.spec)
        values = views * len(images) * math.prod(grid)
        _begin(partial, marks, (views, len(dataset), *grid), values, len(batches))
    accelerator.wait_for_everyone()
    out = np.lib.format.open_memmap(partial, "r+")
    done = np.memmap(marks, np.bool_, "r+")
    left = np.flatnonzero(~done)
    accelerator.wait_for_everyone()  # no rank may mark a batch before all have read what is left
    _encode(backbone, dataset, batches, left, out, done, accelerator, stop)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not path.exists():  # another run may have written it
            partial.rename(path)
        marks.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def _batches(images: Sequence[int], views: int) -> list[list[Key]]:
    order = EpochBatches([images], BATCH, shuffle=False)
    batches: list[list[Key]] = []
    for view in range(views):
        order.epoch = view
        batches += order
    return batches


def _encode(
    backbone: nn.Module,
    dataset: ImageDataset,
    batches: list[list[Key]],
    left: np.ndarray[Any, Any],
    out: np.ndarray[Any, Any],
    done: np.memmap[Any, Any],
    accelerator: Accelerator,
    stop: Stop | None,
) -> None:
    """Encode this rank's share of the batches that are left."""
    rank, world = accelerator.process_index, accelerator.num_processes
    common, share = len(left) // world, left[rank::world]
    finished: list[int] = []
    loader = DataLoader(dataset, batch_sampler=[batches[n] for n in share], collate_fn=collate)
    bar = tqdm(loader, "encoding images once", disable=rank != 0)
    try:
        for i, batch in enumerate(bar):
            if stop and i < common:  # all ranks have this batch, so all of them call it
                stop()
            view = batches[share[i]][0].epoch
            out[view, [item.index for item in batch.unreadable]] = np.nan
            if batch.images is not None:
                with accelerator.autocast():
                    x = backbone(batch.images.to(accelerator.device))  # (B, P, C)
                out[view, batch.indices] = x.to("cpu", torch.float16).numpy()
            finished.append(share[i])
            if len(finished) == TOGETHER:
                _note(out, done, finished)
    finally:
        _note(out, done, finished)


def _begin(partial: Path, marks: Path, shape: tuple[int, ...], values: int, batches: int) -> None:
    """Create the file of features and the file that marks finished batches, or keep them.

    The file has the given shape; `values` of its numbers will be written.
    """
    begun = partial.exists() and marks.exists() and marks.stat().st_size == batches
    left = marks.read_bytes().count(0) / batches if begun else 1
    partial.parent.mkdir(parents=True, exist_ok=True)
    if not begun:
        for path in (marks, partial):  # in this order: no marks without features
            path.unlink(missing_ok=True)
    try:
        # Writing to a mapped file on a full disk kills the process instead of raising an error.
        check_room(partial.parent, int(left * values * np.dtype(np.float16).itemsize))
    except OSError as error:
        raise CheckpointError(
            f"{partial.parent}: not enough space for the features: {error};"
            " free some, choose another folder (train.cache) or use fewer cached_views"
        ) from None
    if not begun:
        np.lib.format.open_memmap(partial, "w+", np.float16, shape).flush()
        np.memmap(marks, np.bool_, "w+", shape=(batches,)).flush()


def _note(out: np.ndarray[Any, Any], done: np.memmap[Any, Any], batches: list[int]) -> None:
    """Flush the features to the disk, then mark their batches as done and clear the list."""
    out.flush()  # type: ignore[attr-defined]  # NumPy annotates open_memmap as returning ndarray
    done[batches] = True
    done.flush()
    batches.clear()


def _digest(
    backbone: nn.Module,
    dataset: ImageDataset,
    images: Sequence[int],
    views: int,
    precision: str,
) -> str:
    digest = hashlib.sha256()
    # str(backbone) has settings that are not weights, such as padding and epsilons.
    settings: list[Any] = [str(backbone), precision]
    settings += [repr(dataset.spec), repr(dataset.augmentation), dataset.seed, views]
    settings += [repr(dataset.audio_augmentation)] if dataset.audio_augmentation else []
    settings += [repr(dataset.processor)] if dataset.processor else []
    settings += [] if len(images) == len(dataset) else [list(images)]
    digest.update(json.dumps(settings).encode())
    for path in dataset.images:
        try:
            digest.update(content_digest(path).encode())
        except OSError:
            digest.update(b"missing")
    # Texts and sources decide which images may be mirrored.
    digest.update(bytes(dataset.unaugmented))
    for view in range(views):
        digest.update(bytes(dataset.list_flips(view)))
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
