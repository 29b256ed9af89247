"""Download of a checkpoint from the Hugging Face Hub to the cache of `huggingface_hub`.

Only the files that are needed are downloaded, a configuration last, so that its presence in the
cache marks a complete copy. The variables HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and
HF_ENDPOINT have their usual meaning. Code in a repository is never run.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
from collections.abc import Iterable, Mapping, Sequence
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
    SUBFOLDERS,
    TOKENIZER,
    WEIGHTS,
    CheckpointFormat,
    check_public_folder,
    checkpoint_format,
    config_format,
    first_pickle,
    list_shards,
)
from captioner.checkpoint.hub_errors import describe_problem, explain_hub_error, is_unreachable
from captioner.checkpoint.hub_names import HubName
from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.files import check_room

OWN_FILES = (CONFIG, WEIGHTS, TOKENIZER, METRICS, ANSWERS, PUBLIC_CONFIG, "README.md")
"""Files of captioner's format, beside graphs (*.onnx) and the folder of a text encoder."""
PUBLIC_SUFFIXES = (".json", ".model", ".txt", ".jinja")
"""Suffixes of the files of a transformers model, beside its weights."""

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
                problem = describe_problem(error)
                _logger.warning("%s: no answer (%s); the copy in the cache is used", name, problem)
            return folder
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _remove_partial_files(name)
        raise CheckpointError(f"{name}: {explain_hub_error(error, name)}") from None


def select_files(name: HubName, files: Sequence[str], kind: CheckpointFormat) -> list[str]:
    """Return the files of a repository to download, the one that marks a complete copy last.

    The files that an index of weights lists are not among them.

    Raises:
        CheckpointError: The repository has no weights as safetensors, or no configuration.
    """
    if kind == "captioner":
        needed = [f for f in files if f in OWN_FILES or (f.endswith(".onnx") and "/" not in f)]
        needed += [f for f in files if f.startswith(f"{TEXT_ENCODER}/") and not first_pickle([f])]
    else:
        texts = [f for f in files if f.endswith(PUBLIC_SUFFIXES)]
        needed = [f for f in texts if "/" not in f or f.rpartition("/")[0] in SUBFOLDERS]
        needed += [f for f in files if f in (CONFIG, WEIGHTS)]
    if WEIGHTS not in needed and (kind == "captioner" or INDEX not in needed):
        if pickle := first_pickle(files):
            raise CheckpointError(f"{name}: has only pickles ({pickle}); {HOW_TO_CONVERT}")
        raise CheckpointError(f"{name}: has no {WEIGHTS}; expected the repository of a model")
    last = CONFIG if CONFIG in needed else PUBLIC_CONFIG
    if last not in needed:
        raise CheckpointError(
            f"{name}: has neither {CONFIG} nor {PUBLIC_CONFIG}; expected a checkpoint of captioner"
            " or a transformers model"
        )
    return [f for f in needed if f != last] + [last]


def _download(name: HubName) -> Path:
    """Return the folder of the files after downloading those that the cache lacks."""
    api = HfApi(library_name="captioner", library_version=__version__)
    info = api.model_info(
        name.repository,
        revision=name.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
    )
    assert info.sha is not None
    pinned = HubName(name.repository, info.sha)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    *files, last = select_files(name, list(sizes), _remote_format(pinned, sizes))
    if INDEX in files and WEIGHTS not in files:
        files += _list_remote_shards(pinned, sizes)
    missing = [file for file in (*files, last) if _find_file(pinned, file) is None]
    _check_space(name, sum(sizes[file] for file in missing))
    if patterns := [glob.escape(file) for file in missing if file != last]:
        snapshot_download(
            name.repository,
            revision=info.sha,
            allow_patterns=patterns,
            library_name="captioner",
            library_version=__version__,
        )
    # With the name of the branch, so that the cache knows its commit when there is no network.
    folder = Path(hf_hub_download(name.repository, last, revision=name.revision)).parent
    if folder.name != info.sha:  # the branch has just moved
        folder = _fetch(pinned, last).parent
    try:
        _check_copy(folder)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; if the repository {name} is complete, delete {folder.parents[1]} and load it"
            " again"
        ) from None
    return folder


def _remote_format(name: HubName, files: Iterable[str]) -> CheckpointFormat:
    """Return the format of a repository, whose `config.json` is read if the names do not tell."""
    has_own, has_public = CONFIG in files, PUBLIC_CONFIG in files
    if has_own and has_public:
        return config_format(_fetch(name, PUBLIC_CONFIG))
    return "transformers" if has_public else "captioner"


def _fetch(name: HubName, file: str) -> Path:
    """Return the path of a file, which is downloaded unless the cache has it."""
    return Path(hf_hub_download(name.repository, file, revision=name.revision))


def _list_remote_shards(name: HubName, sizes: Mapping[str, int]) -> list[str]:
    """Return the files of the weights that the index lists; raise CheckpointError."""
    shards = list_shards(_fetch(name, INDEX))
    missing = [shard for shard in shards if shard not in sizes]
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} of the {len(shards)} files of the weights that {INDEX} lists"
            f" are missing (first: {missing[0]}); the repository is not complete"
        )
    return shards


def _check_space(name: HubName, size: int) -> None:
    """Raise CheckpointError if the disk of the cache has no room for a number of bytes."""
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
