"""Upload of a checkpoint to the Hugging Face Hub, as one commit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner import __version__
from captioner.checkpoint.hub_errors import explain_hub_error
from captioner.checkpoint.hub_names import HubName
from captioner.errors import CheckpointError
from captioner.export.published_files import PublishedFiles
from captioner.extras import explain_missing

REPLACED = ["*.safetensors", "*.onnx", "*.json", "*.model", "*.txt", "*.jinja", "*.yaml"]
"""Files of the repository that are deleted unless they are uploaded again: graphs of other weights,
for example, would not load."""


def upload_files(
    files: PublishedFiles, name: HubName, *, private: bool = False, message: str | None = None
) -> str:
    """Upload files to a repository, which is created if necessary; return the commit.

    Args:
        files: The files, with the card.
        name: The repository; its revision is a branch, which is created if necessary.
        private: Make a new repository private; one that exists is not changed.
        message: Subject of the commit.

    Raises:
        CheckpointError: The Hub rejects the upload or cannot be reached.
        DependencyError: `huggingface_hub` is not installed.
    """
    with explain_missing("captioner push"):
        from huggingface_hub import HfApi
    api = HfApi(library_name="captioner", library_version=__version__)
    try:
        api.create_repo(name.repository, private=private, exist_ok=True)
        if name.revision:
            api.create_branch(name.repository, branch=name.revision, exist_ok=True)
        with _stage(files) as folder:
            commit = api.upload_folder(
                repo_id=name.repository,
                folder_path=folder,
                revision=name.revision,
                commit_message=message or f"Upload a checkpoint with captioner {__version__}",
                delete_patterns=REPLACED,
            )
    except Exception as error:
        raise CheckpointError(f"{name}: {explain_hub_error(error, name)}") from None
    return str(commit.oid)


@contextmanager
def _stage(files: PublishedFiles) -> Iterator[Path]:
    """Yield a temporary folder with the content of a repository; large files are links."""
    with tempfile.TemporaryDirectory(prefix="captioner-push-") as name:
        folder = Path(name)
        for place, source in files.copies.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            _link(source.resolve(), folder / place)
        for place, text in files.texts.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text, encoding="utf-8")
        yield folder


def _link(source: Path, target: Path) -> None:
    """Make a link to a file, or a copy where links are not permitted."""
    try:
        os.symlink(source, target)
    except OSError:
        shutil.copyfile(source, target)
