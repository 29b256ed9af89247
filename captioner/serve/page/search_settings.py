"""The decoding settings on the page, and their conversion to decoding options."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from captioner.serve.page.components import gr, text_box
from captioner.serve.routes.fields import validate
from captioner.serve.routes.native_fields import (
    MAX_BEAMS,
    MAX_CAPTIONS,
    CaptionRequest,
    decoding_options,
)

NAMES = (
    "num_captions beam_size min_length max_length must_include banned sample temperature top_p seed"
)
"""The settings, in the order in which `read_settings` takes their values."""


def add_settings(parts: MutableMapping[str, Any]) -> None:
    """Add the settings to the page, in a closed accordion, and to its `parts` by name."""
    with gr.Accordion("Settings", open=False):
        parts["num_captions"] = gr.Slider(1, MAX_CAPTIONS, 3, step=1, label="Number of captions")
        label = "Beam size, at least the number of captions: larger is slower"
        parts["beam_size"] = gr.Slider(1, MAX_BEAMS, 5, step=1, label=label)
        label = "Minimum length, in tokens (about words)"
        parts["min_length"] = gr.Slider(0, 30, 0, step=1, label=label)
        label = "Maximum length, in tokens (about words)"
        parts["max_length"] = gr.Slider(1, 30, 30, step=1, label=label)
        info = "Words or phrases, separated by commas; | separates alternatives"
        parts["must_include"] = text_box("Must include", "dog|dogs, green grass", info=info)
        parts["banned"] = text_box("Must not include", "man, woman", info="Separated by commas")
        parts["sample"] = gr.Checkbox(False, label="Sample captions at random")
        label = "Temperature: higher is more random"
        parts["temperature"] = gr.Slider(0.1, 2, 1, step=0.1, label=label, visible=False)
        label = "Top-p: share of the probability that is sampled from"
        parts["top_p"] = gr.Slider(0.05, 1, 1, step=0.05, label=label, visible=False)
        label = "Seed: each seed samples other captions"
        parts["seed"] = gr.Number(
            0, label=label, visible=False, precision=0, minimum=0, maximum=2**31 - 1
        )
        parts["again"] = gr.Button("Caption again")


def read_settings(values: Sequence[Any], *, max_length: int) -> tuple[int, dict[str, Any]]:
    """Return the number of captions and the decoding options; raises CaptionerError.

    Args:
        values: The values of the settings, in the order of `NAMES`.
        max_length: The longest caption of the model, which a page that was opened before the model
            was loaded may exceed.
    """
    given = dict(zip(NAMES.split(), values, strict=True))
    fields = {
        "num_captions": given["num_captions"],
        "min_length": given["min_length"],
        "max_length": min(given["max_length"], max_length),
        "banned": split_phrases(given["banned"]),
    }
    if given["sample"]:
        fields |= {"method": "sample", "seed": given["seed"] or 0}
        fields |= {name: given[name] for name in ("temperature", "top_p")}
    else:
        fields |= {"method": "beam", "beam_size": given["beam_size"]}
        fields |= {"must_include": split_phrases(given["must_include"])}
    request = validate(CaptionRequest, fields)
    options = decoding_options(request)
    if not given["sample"]:  # beam search returns at most as many captions as it has beams
        options["beam_size"] = max(options["beam_size"], request.num_captions)
    return request.num_captions, options


def split_phrases(text: str | None) -> list[str]:
    """Return the phrases between commas."""
    return [phrase.strip() for phrase in (text or "").split(",") if phrase.strip()]
