"""From the name of a checkpoint to its folder: `bundled`, a folder or `hf-hub:USER/NAME`."""

from __future__ import annotations

import os
from pathlib import Path

from captioner.checkpoint.folder_format import check_public_folder, checkpoint_format
from captioner.checkpoint.hub_names import HubName, is_hub_name, parse_hub_name
from captioner.errors import CheckpointError
from captioner.extras import explain_missing

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def resolve_checkpoint(name: str | Path) -> Path:
    """Return the folder of a checkpoint, in captioner's format or in that of transformers.

    Args:
        name: `bundled`, a folder, or `hf-hub:USER/NAME[@REVISION]`, which is downloaded unless the
            cache has it. The network is used for such a name only.

    Raises:
        CheckpointError: There is no complete checkpoint, or it cannot be downloaded.
        DependencyError: `huggingface_hub` is needed and not installed.
    """
    if hub := parse_hub_name(name):
        with explain_missing(str(name)):
            from captioner.checkpoint.hub_download import download_repository
        return download_repository(hub)
    folder = PRETRAINED if str(name) == "bundled" else Path(name)
    if checkpoint_format(folder) == "transformers":
        check_public_folder(folder)
    return folder


def resolve_own_checkpoint(name: str | Path, user: str) -> Path:
    """Return the folder of a checkpoint in captioner's format.

    `user`, the part of the package that takes no other format, begins the error about it.

    Raises:
        CheckpointError: See `resolve_checkpoint`; or the model has the format of transformers.
    """
    folder = resolve_checkpoint(name)
    if checkpoint_format(folder) != "captioner":
        raise CheckpointError(
            f"{name}: a transformers model; {user} needs a checkpoint of captioner, with"
            " config.yaml and model.safetensors"
        )
    return folder


def resolve_writable_checkpoint(name: str | Path, user: str) -> Path:
    """Return the folder of a checkpoint in captioner's format, which `user` changes.

    Raises:
        CheckpointError: See `resolve_own_checkpoint`; or the files belong to the cache of the Hub.
    """
    if is_hub_name(name):
        raise CheckpointError(
            f"{name}: {user} replaces files of the checkpoint, and those in the cache of the Hub"
            " must stay as they are; copy it (`hf download USER/NAME --local-dir FOLDER`) and name"
            " FOLDER"
        )
    return resolve_own_checkpoint(name, user)


def pin_checkpoint(name: str | Path) -> str:
    """Return a name that keeps its meaning: a repository of the Hub with its present commit.

    Worker processes and copies that get this name load the same files, from the cache. The names
    of folders are returned as they are. Raises the errors of `resolve_checkpoint`.
    """
    hub = parse_hub_name(name)
    return str(HubName(hub.repository, resolve_checkpoint(name).name) if hub else name)


def absolute_name(name: str | Path) -> str:
    """Return a name that does not depend on the working folder."""
    return str(name) if str(name) == "bundled" or is_hub_name(name) else os.path.abspath(name)


def describe_name(name: str | Path) -> dict[str, str | None]:
    """Return the `name` and the `revision` of a checkpoint, which is None for a folder."""
    hub = parse_hub_name(name)
    if hub is None:
        return {"name": str(name), "revision": None}
    return {"name": str(HubName(hub.repository)), "revision": hub.revision}
