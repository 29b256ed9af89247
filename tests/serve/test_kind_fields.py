"""The kind of an image in the responses of the server."""

from __future__ import annotations

import io

import pytest
from kind_heads import IMAGES, add_kind_head
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

pytest.importorskip("gradio")
from serving import start_in_thread

import captioner


def test_responses_have_the_kind_of_the_image(tmp_path) -> None:
    model = captioner.load(add_kind_head(make_vqa_checkpoint(tmp_path / "best")))
    file = io.BytesIO()
    IMAGES[4].save(file, "PNG")
    with start_in_thread(model) as server:
        for path, fields in (("caption", {}), ("vqa", {"question": QUESTIONS[0]})):
            files = {"image": file.getvalue()}
            result = server.client.post(f"/v1/{path}", files=files, data=fields).json()
            assert result["kind"] == "drawing"
            expected = model.encode(file.getvalue()).kind_probability
            assert result["kind_probability"] == pytest.approx(expected, abs=1e-4)
