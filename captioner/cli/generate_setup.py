"""The images and the model of a run of generate.py, with its messages and exit status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.cli.batch.find_images import Inputs, find_inputs
from captioner.cli.generate_options import CaptionOptions
from captioner.cli.output import describe_unusual, list_paths
from captioner.cli.process import notify
from captioner.extras import is_installed
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES

if TYPE_CHECKING:
    from captioner.predict import Captioner


def list_inputs(options: CaptionOptions) -> Inputs:
    """Return the images of the paths, without the files that the run writes."""
    written, sheets = options.written_paths(), options.batch.attention
    images = find_inputs(
        options.paths,
        recursive=options.recursive,
        exclude=written,
        sheets=sheets,
        suffixes=find_suffixes(options),
    )
    for remark in images.remarks:
        notify(remark)
    return images


def find_suffixes(options: CaptionOptions) -> tuple[str, ...]:
    """Return the suffixes of the files in folders that the model takes."""
    images = IMAGE_SUFFIXES + (RAW_SUFFIXES if is_installed("rawpy") else ())
    if not options.checkpoint or options.audio:
        return images
    from captioner.checkpoint import CONFIG, checkpoint_format, resolve_checkpoint
    from captioner.config import load_config

    folder = resolve_checkpoint(options.checkpoint[0])
    if checkpoint_format(folder) == "transformers":
        return images
    model = load_config(folder / CONFIG).model
    return (images if model.backbones else ()) + (AUDIO_SUFFIXES if model.audio else ())


def pin_checkpoints(options: CaptionOptions) -> CaptionOptions:
    """Return the options with the present commit of each repository of the Hub."""
    if not options.checkpoint:
        return options
    from captioner.checkpoint import pin_checkpoint

    return replace(options, checkpoint=[pin_checkpoint(name) for name in options.checkpoint])


def load_captioner(options: CaptionOptions, images: int) -> Captioner:
    """Load the checkpoint, on the device that is suitable for a number of images."""
    # Imported here so that --help does not import torch.
    from captioner.predict.backend_choice import choose_device
    from captioner.predict.loading import load

    device, dtype = options.device, options.dtype
    if options.backend != "onnx":
        device = choose_device(device, dtype=dtype or "float32", images=images)
    return load(
        options.checkpoint or "bundled",
        backend=options.backend,
        device=device,
        dtype=dtype,
        tta=options.tta,
        compile=options.compile,
    )


def report_repeated(captioner: Captioner, allowed: list[str] | None) -> None:
    """Report allowed answers that have the same tokens as earlier ones."""
    if allowed and (repeated := captioner.repeated_answers(allowed)):
        notify(f"--answers: duplicates are ignored: {list_paths(repeated)}")


def report_unusual(kinds: Mapping[str, str | None]) -> None:
    """Report the images, by path, that are not photographs."""
    if message := describe_unusual(kinds):
        notify(message)


def choose_status(failed: int, total: int) -> int:
    """Return the exit status of a run."""
    return 0 if not failed else 1 if failed == total else 3
