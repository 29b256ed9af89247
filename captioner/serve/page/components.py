"""Gradio, told to be quiet, and what the page has of its own.

The page's modules take `gr` from here, since Gradio reads its environment when it is imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from captioner.errors import CaptionerError

# Uploads go with the process.
_UPLOADS = tempfile.TemporaryDirectory(prefix="captioner-page-", ignore_cleanup_errors=True)
os.environ |= {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_TEMP_DIR": _UPLOADS.name,
}

import gradio as gr  # noqa: E402
from gradio import processing_utils  # noqa: E402

__all__ = ["EXAMPLES", "folder", "gr", "live", "offered", "text_box"]

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.jpg"))
"""Of a checkout; an installed package has none."""


async def _fetch_nothing(url: str) -> NoReturn:
    raise ValueError("the page takes uploads, and no URLs")


# Gradio would fetch a URL that a caller sends in the place of an upload.
processing_utils.async_ssrf_protected_get = _fetch_nothing


def live(name: str, **options: Any) -> gr.HTML:
    """HTML whose changes a screen reader speaks."""
    announce = "element.setAttribute('aria-live', 'polite')"
    return gr.HTML(elem_id=name, js_on_load=announce, apply_default_css=False, **options)


def text_box(label: str, placeholder: str, **options: Any) -> gr.Textbox:
    """Return a box for a line of text.

    It has no maximum length, at which a browser would cut what is pasted: a text that is too long
    is rejected once it is sent.
    """
    return gr.Textbox(label=label, value="", placeholder=placeholder, **options)


def offered(path: str | None) -> str:
    """The path of an upload or an example; raises CaptionerError for any other of the server's."""
    found = Path(path or "").resolve()
    if found not in EXAMPLES and not found.is_relative_to(Path(_UPLOADS.name).resolve()):
        raise CaptionerError("the picture is not here; choose it again")
    return str(found)


def folder() -> str:
    """A new folder that the page may offer files from."""
    return tempfile.mkdtemp(dir=_UPLOADS.name)
