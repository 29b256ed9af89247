"""Download of a checkpoint from the Hugging Face Hub to the cache of `huggingface_hub`.

Only the files that are needed are downloaded. The configuration is downloaded last, so that its
presence in the cache marks a complete copy. The variables HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and
HF_ENDPOINT have their usual meaning. Code in a repository is never run.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.file_download import repo_folder_name

from captioner import __version__
from captioner.checkpoint.folder import ANSWERS, METRICS, TEXT_ENCODER
from captioner.checkpoint.folder_format import (
    CONFIG,
    HOW_TO_CONVERT,
    INDEX,
    PUBLIC_CONFIG,
    TOKENIZER,
    WEIGHTS,
    check_public_folder,
    checkpoint_format,
    first_pickle,
    list_shards,
)
from captioner.checkpoint.hub_errors import explain_hub_error, is_unreachable
from captioner.checkpoint.hub_names import HubName
from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.files import check_room

OWN_FILES = (CONFIG, WEIGHTS, TOKENIZER, METRICS, ANSWERS, PUBLIC_CONFIG, "README.md")
"""Files of captioner's format, beside graphs (*.onnx) and the folder of a text encoder."""
PUBLIC_SUFFIXES = (".json", ".model", ".txt", ".jinja")
"""Suffixes of the files of a transformers model, beside its weights."""
CHAT_TEMPLATES = "additional_chat_templates/"

_logger = logging.getLogger(__name__)


def download_repository(name: HubName) -> Path:
    """Return the folder in the cache with the files of a repository, and download what is missing.

    The name of the folder is the commit. If the Hub cannot be reached, the copy of an earlier
    download is returned; a full commit in the cache is returned without a request.

    Raises:
        CheckpointError: The repository cannot be read or has no checkpoint that can be used, or
            the files cannot be stored.
    """
    if name.commit and (folder := _find_cached(name)):
        return folder
    try:
        return _download(name)
    except CheckpointError:
        raise
    except Exception as error:
        if is_unreachable(error) and (folder := _find_cached(name)):
            if not constants.HF_HUB_OFFLINE:
                reason = type(error.__cause__ or error).__name__
                _logger.warning("%s: no answer of the Hub (%s); cached copy used", name, reason)
            return folder
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _remove_partial_files(name)
        raise CheckpointError(f"{name}: {explain_hub_error(error, name)}") from None


def select_files(name: HubName, files: Sequence[str]) -> list[str]:
    """Return the files of a repository to download, the configuration last.

    The files that an index of weights lists are not among them.

    Raises:
        CheckpointError: The repository has no weights as safetensors, or no configuration.
    """
    if CONFIG in files:
        graphs = [f for f in files if f.endswith(".onnx") and "/" not in f]
        encoder = [f for f in files if f.startswith(f"{TEXT_ENCODER}/")]
        encoder = [f for f in encoder if not first_pickle([f])]
        needed, config = [f for f in files if f in OWN_FILES] + graphs + encoder, CONFIG
    else:
        templates = [f for f in files if f.startswith(CHAT_TEMPLATES) and f.endswith(".jinja")]
        needed = [f for f in files if f.endswith(PUBLIC_SUFFIXES) and "/" not in f] + templates
        needed += [WEIGHTS] if WEIGHTS in files else []
        config = PUBLIC_CONFIG
    if WEIGHTS not in needed and (CONFIG in files or INDEX not in needed):
        if pickle := first_pickle(files):
            raise CheckpointError(f"{name}: has only pickles ({pickle}); {HOW_TO_CONVERT}")
        raise CheckpointError(f"{name}: has no {WEIGHTS}; expected the repository of a model")
    if config not in needed:
        raise CheckpointError(
            f"{name}: has neither {CONFIG} nor {PUBLIC_CONFIG}; expected a checkpoint of captioner"
            " or a transformers model"
        )
    return [f for f in needed if f != config] + [config]


def _download(name: HubName) -> Path:
    """Return the folder of the files after downloading those that the cache lacks."""
    api = HfApi(library_name="captioner", library_version=__version__)
    info = api.model_info(
        name.repository,
        revision=name.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
    )
    commit = info.sha
    assert commit is not None
    pinned = HubName(name.repository, commit)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    *files, config = select_files(name, list(sizes))
    if INDEX in files and WEIGHTS not in files:
        files += _list_remote_shards(pinned, sizes)
    _check_space(pinned, {file: sizes[file] for file in (*files, config)})
    folder = Path(
        snapshot_download(
            name.repository,
            revision=commit,
            allow_patterns=[glob.escape(file) for file in files],
            library_name="captioner",
            library_version=__version__,
        )
    )
    # With the name of the branch, so that the cache knows the commit when there is no network.
    last = hf_hub_download(name.repository, config, revision=name.revision)
    if Path(last).parent != folder:  # the branch has just moved
        hf_hub_download(name.repository, config, revision=commit)
    _check_copy(folder)
    return folder


def _list_remote_shards(name: HubName, sizes: Mapping[str, int]) -> list[str]:
    """Return the files of the weights that the index lists; raise CheckpointError."""
    index = hf_hub_download(name.repository, INDEX, revision=name.revision)
    shards = list_shards(Path(index))
    missing = [shard for shard in shards if shard not in sizes]
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} of the {len(shards)} files of the weights that {INDEX} lists"
            f" are missing (first: {missing[0]}); the repository is not complete"
        )
    return shards


def _check_space(name: HubName, sizes: Mapping[str, int]) -> None:
    """Raise CheckpointError if the disk of the cache has no room for the files it lacks."""
    size = sum(n for file, n in sizes.items() if _find_file(name, file) is None)
    folder = Path(constants.HF_HUB_CACHE).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        check_room(existing, size) if size else None
    except OSError as error:
        raise CheckpointError(
            f"{name}: the disk of the cache ({folder}) is too full: {error}; free space, or set"
            " HF_HOME"
        ) from None


def _find_cached(name: HubName) -> Path | None:
    """Return the folder of a complete copy in the cache; None if there is none."""
    for config in (CONFIG, PUBLIC_CONFIG):
        if path := _find_file(name, config):
            with contextlib.suppress(CheckpointError):
                _check_copy(path.parent)
                return path.parent
    return None


def _find_file(name: HubName, file: str) -> Path | None:
    """Return the path of a file in the cache; None if it is not there."""
    path = try_to_load_from_cache(name.repository, file, revision=name.revision)
    return Path(path) if isinstance(path, str) else None


def _check_copy(folder: Path) -> None:
    """Raise CheckpointError unless the downloaded files are a complete checkpoint."""
    if checkpoint_format(folder) == "transformers":
        check_public_folder(folder)
    else:
        read_header(folder / WEIGHTS)


def _remove_partial_files(name: HubName) -> None:
    """Remove what an interrupted download of a repository left in the cache."""
    folder = repo_folder_name(repo_id=name.repository, repo_type="model")
    for path in (Path(constants.HF_HUB_CACHE) / folder / "blobs").glob("*.incomplete"):
        path.unlink(missing_ok=True)
