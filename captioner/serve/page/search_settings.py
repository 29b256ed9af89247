"""How captions are searched for: the page's settings, and what they are to `DecodingConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from captioner.serve.page.components import gr, text_box
from captioner.serve.routes.fields import check
from captioner.serve.routes.native_fields import (
    MOST_BEAMS,
    MOST_CAPTIONS,
    CaptionRequest,
    caption_options,
)

NAMES = "captions beams least most include ban sample heat share seed"
"""Of the settings, in the order in which `decoding` takes them."""
BEAMS = "Beam size, at least the number of captions: more is slower"


def add(parts: Any) -> None:
    """Put them on the page, closed; `parts` keeps them by name."""
    with gr.Accordion("Settings", open=False):
        parts["captions"] = gr.Slider(1, MOST_CAPTIONS, 3, step=1, label="Number of captions")
        parts["beams"] = gr.Slider(1, MOST_BEAMS, 5, step=1, label=BEAMS)
        parts["least"] = gr.Slider(0, 30, 0, step=1, label="Shortest, in tokens (about words)")
        parts["most"] = gr.Slider(1, 30, 30, step=1, label="Longest, in tokens (about words)")
        hint = "Words or phrases, separated by commas; | stands between alternatives"
        parts["include"] = text_box("Must include", "dog|dogs, green grass", info=hint)
        parts["ban"] = text_box("Must not include", "man, woman", info="Separated by commas")
        parts["sample"] = gr.Checkbox(False, label="Draw captions at random")
        drawn = {"visible": False}
        parts["heat"] = gr.Slider(0.1, 2, 1, step=0.1, label="Temperature: boldness", **drawn)
        parts["share"] = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p: share in play", **drawn)
        drawn |= {"precision": 0, "minimum": 0, "maximum": 2**31 - 1}
        parts["seed"] = gr.Number(0, label="Seed: another one, other captions", **drawn)
        parts["again"] = gr.Button("Caption again")


def decoding(settings: Sequence[Any], *, longest: int) -> tuple[int, dict[str, Any]]:
    """What the settings hold: how many captions, and fields of `DecodingConfig`; CaptionerError.

    A page that has just been opened does not know of the `longest` caption that can be written.
    """
    given = SimpleNamespace(**dict(zip(NAMES.split(), settings, strict=True)))
    values = {
        "num_captions": given.captions,
        "min_length": given.least,
        "max_length": min(given.most, longest),
        "banned": phrases(given.ban),
    }
    if given.sample:
        values |= {"method": "sample", "temperature": given.heat, "top_p": given.share}
        values |= {"seed": given.seed or 0}
    else:
        values |= {"method": "beam", "beam_size": given.beams}
        values |= {"must_include": phrases(given.include)}
    asked = check(CaptionRequest, values)
    options = caption_options(asked)
    if not given.sample:  # a search returns at most as many captions as it has beams
        options["beam_size"] = max(options["beam_size"], asked.num_captions)
    return asked.num_captions, options


def phrases(text: str | None) -> list[str]:
    """What stands between commas."""
    return [phrase.strip() for phrase in (text or "").split(",") if phrase.strip()]
