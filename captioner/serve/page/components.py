"""Gradio without network access, and small components of the page.

The other modules of the page import `gr` from here, because Gradio reads its environment variables
when it is imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NoReturn

from captioner.errors import CaptionerError

# Uploads are deleted when the process exits.
_UPLOADS = tempfile.TemporaryDirectory(prefix="captioner-page-", ignore_cleanup_errors=True)
os.environ |= {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_TEMP_DIR": _UPLOADS.name,
}

import gradio as gr  # noqa: E402
from gradio import processing_utils  # noqa: E402

__all__ = ["EXAMPLES", "check_upload", "create_folder", "gr", "live_region", "text_box"]

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.jpg"))
"""Example images of a checkout; an installed package has none."""


async def _refuse_url(url: str) -> NoReturn:
    raise ValueError("the page accepts uploads, but no URLs")


# Gradio would fetch a URL that a client sends instead of an upload.
processing_utils.async_ssrf_protected_get = _refuse_url


def live_region(name: str, *, value: str | None = None, min_height: int | None = None) -> gr.HTML:
    """Return HTML whose changes a screen reader announces."""
    announce = "element.setAttribute('aria-live', 'polite')"
    return gr.HTML(
        value, elem_id=name, js_on_load=announce, apply_default_css=False, min_height=min_height
    )


def text_box(
    label: str,
    placeholder: str,
    *,
    info: str | None = None,
    lines: int = 1,
    scale: int | None = None,
) -> gr.Textbox:
    """Return a box for text, without a maximum length: a browser would truncate a pasted text."""
    return gr.Textbox(
        label=label, value="", placeholder=placeholder, info=info, lines=lines, scale=scale
    )


def check_upload(path: str | None) -> str:
    """Return the path of an upload or an example; raises CaptionerError for any other file."""
    resolved = Path(path or "").resolve()
    if resolved not in EXAMPLES and not resolved.is_relative_to(Path(_UPLOADS.name).resolve()):
        raise CaptionerError("the file is not available; choose it again")
    return str(resolved)


def create_folder() -> str:
    """Create a folder for files that the page offers for download."""
    return tempfile.mkdtemp(dir=_UPLOADS.name)
