"""A frozen backbone's features, computed once and read back from a memory-mapped file.

Shapes: V views, N images, P positions, C channels.
"""

from __future__ import annotations

import hashlib
import json
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
from captioner.training.distributed import any_rank
from captioner.training.durable import file_digest


def use_cached_features(
    backbone: nn.Module,
    train: ImageDataset,
    val: ImageDataset,
    stage: StageConfig,
    config: Config,
    accelerator: Accelerator,
) -> None:
    """Give both data sets features to serve in the place of pixels."""
    backbone.eval()
    views = stage.cached_views if stage.augment else 1
    for dataset, count in ((train, views), (val, 1)):
        dataset.features = cached_features(
            backbone, dataset, views=count, folder=Path(config.train.cache), accelerator=accelerator
        )


def cached_features(
    backbone: nn.Module,
    dataset: ImageDataset,
    *,
    views: int,
    folder: Path,
    accelerator: Accelerator,
    batch_size: int = 32,
) -> np.ndarray:
    """float16 features (V, N, P, C); view v is what the data set gives in epoch v.

    The file's name is a digest of the images' bytes, of the transform, of the backbone and of the
    precision; a file that is there under that name is complete. The features of an image that does
    not decode are NaN, which the data set serves as an unreadable sample.
    """
    path = folder / f"{_digest(backbone, dataset, views, accelerator.mixed_precision)}.npy"
    if any_rank(accelerator, not path.exists()):
        _write(path, backbone, dataset, views, accelerator, batch_size)
    return np.load(path, mmap_mode="c")


@torch.no_grad()
def _write(
    path: Path,
    backbone: nn.Module,
    dataset: ImageDataset,
    views: int,
    accelerator: Accelerator,
    batch_size: int,
) -> None:
    """Every rank encodes its share of the batches; the file is one, on a disk that all see."""
    rank, world = accelerator.process_index, accelerator.num_processes
    partial = path.with_suffix(".partial")
    if accelerator.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (views, len(dataset), *feature_shape(backbone, dataset.spec))
        np.lib.format.open_memmap(partial, "w+", np.float16, shape).flush()
    accelerator.wait_for_everyone()
    out = np.lib.format.open_memmap(partial, "r+")
    batches = EpochBatches([range(len(dataset))], batch_size, shuffle=False)
    total = views * len(range(rank, len(batches), world))
    with tqdm(total=total, desc="encoding images once", disable=rank != 0) as bar:
        for view in range(views):
            batches.epoch = view
            share = list(batches)[rank::world]
            for batch in DataLoader(dataset, batch_sampler=share, collate_fn=collate):
                bar.update()
                out[view, [item.index for item in batch.unreadable]] = np.nan
                if batch.images is not None:
                    with accelerator.autocast():
                        x = backbone(batch.images.to(accelerator.device))
                    out[view, batch.indices] = x.to("cpu", torch.float16).numpy()
    out.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(path)
    accelerator.wait_for_everyone()


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
    digest.update(bytes(dataset.fixed))
    for view in range(views):
        digest.update(bytes(dataset.flips(view)))
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
