"""Digests of checkpoints: do two names mean the same model?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from captioner.checkpoint.folder import ANSWERS
from captioner.checkpoint.folder_format import (
    CONFIG,
    SUBFOLDERS,
    TOKENIZER,
    WEIGHTS,
    checkpoint_format,
    list_weights,
)
from captioner.checkpoint.resolution import resolve_checkpoint
from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.files import file_digest

SAMPLE = 4096
"""Bytes of each tensor that the digest of a transformers model includes."""
TEXT_SUFFIXES = (".json", ".model", ".txt", ".jinja")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def checkpoint_files(name: str | Path) -> list[Path]:
    """Return the files on which a model's output depends.

    Of a transformers model, these are the weights and all files of its configuration, tokenizers
    and preprocessor.
    """
    folder = resolve_checkpoint(name)
    if checkpoint_format(folder) == "transformers":
        weights = list_weights(folder)
        parts = [folder, *(folder / name for name in SUBFOLDERS)]
        files = (p for part in parts if part.is_dir() for p in sorted(part.iterdir()))
        return [*(p for p in files if p.suffix in TEXT_SUFFIXES and p.is_file()), *weights]
    answers = [folder / ANSWERS] if (folder / ANSWERS).exists() else []
    return [*(folder / file for file in (CONFIG, WEIGHTS, TOKENIZER)), *answers]


def fingerprint(names: Iterable[str | Path]) -> str:
    """Return a digest of `checkpoint_files`.

    The weights of a transformers model, which may have many gigabytes, are identified by
    `weights_fingerprint`; all other files are read completely.

    Raises:
        CheckpointError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for name in names:
        is_public = checkpoint_format(resolve_checkpoint(name)) == "transformers"
        for path in checkpoint_files(name):
            try:
                is_sampled = is_public and path.suffix == ".safetensors"
                content = weights_fingerprint(path) if is_sampled else file_digest(path)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
            digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def weights_fingerprint(path: Path) -> str:
    """Return a digest of a safetensors file without reading all of it.

    In the cache of the Hub, the name of the file is the SHA-256 of its content. Otherwise, the
    digest includes the name, type, shape and position of each tensor and its first 4 KB, which
    differ after training.

    Raises:
        CheckpointError: The file is no complete safetensors file.
        OSError: It cannot be read.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for name, tensor in read_header(path).tensors.items():
            digest.update(repr((name, tensor)).encode())
            file.seek(tensor.offset)
            digest.update(file.read(min(SAMPLE, tensor.size)))
    return digest.hexdigest()
