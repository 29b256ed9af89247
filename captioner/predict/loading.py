"""Load a captioner from checkpoints, and load it again when a copy or a pickle is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from captioner.errors import CheckpointError
from captioner.predict.captioner import Captioner
from captioner.predict.checks import checked_options
from captioner.predict.members import load_members
from captioner.predict.origin import Origin, fingerprint


@checked_options(renamed={"looks": "tta"})
def load(
    checkpoint: str | Path | Sequence[str | Path] = "bundled",
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    tta: int = 1,
    compile: bool = False,
) -> Captioner:
    """Load a captioner from a checkpoint folder, or an ensemble from several.

    The members of an ensemble must share one tokenizer, as runs do that start from one checkpoint.
    The configuration is that of the first. See `Captioner` for the keyword arguments.

    Raises:
        CheckpointError: A folder holds no checkpoint, or one that does not fit.
    """
    several = not isinstance(checkpoint, (str, os.PathLike))
    names = [str(name) for name in (checkpoint if several else [checkpoint])]
    options = {"device": device, "dtype": dtype, "tta": tta, "compile": compile}
    origin = Origin.of(names, options) if names else None
    models, tokenizer = load_members(names)
    (model, config), *others = models
    captioner = Captioner(model, tokenizer, config, others=others, **options)
    captioner._origin = origin
    return captioner


def load_again(names: Sequence[str], options: Mapping[str, Any], expected: str) -> Captioner:
    """Load a copy of a pickled captioner; raise CheckpointError if its checkpoint differs."""
    if fingerprint(names) != expected:
        raise CheckpointError(
            f"{', '.join(names)}: not the checkpoint of the captioner that was pickled; load the"
            " captioner again and pickle that one"
        )
    return load(names, **options)


def load_worker(checkpoint: str | Path, *, workers: int, **options: Any) -> Captioner:
    """Load a captioner in one of several worker processes that share the machine's threads."""
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    return load(checkpoint, **options)
