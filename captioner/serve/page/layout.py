"""The web page: what is on it, and how it is put into the server's application.

Nothing is loaded from elsewhere, and nothing is sent elsewhere. What is done on the page is in
`page_events`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from captioner.serve.engine import Engine
from captioner.serve.middleware import UPLOADED
from captioner.serve.page import search_settings
from captioner.serve.page.components import EXAMPLES, gr, live, text_box
from captioner.serve.page.handlers import HINT, Events, Shown
from captioner.serve.page.html import note
from captioner.serve.page.search_settings import NAMES

_KEPT = (3600, 24 * 3600)
"""Seconds: so often, uploads that are so old are deleted."""
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


def mount(app: FastAPI, engine: Engine) -> FastAPI:
    """Put the page of an engine at the application's root."""
    options = {"ssr_mode": False, "footer_links": []}
    return gr.mount_gradio_app(
        app,
        blocks(engine),
        path="/",
        max_file_size=engine.settings.max_body,
        theme=_theme(),
        css_paths=Path(__file__).with_name("page.css"),
        allowed_paths=[str(path) for path in EXAMPLES],
        **options,
    )


def _theme() -> gr.themes.Base:
    """Fonts of the system, and colours that can be read (WCAG 2.2, AA)."""
    fonts = {"font": _FONT, "font_mono": ("ui-monospace", "monospace")}
    return gr.themes.Default(primary_hue="teal", neutral_hue="slate", **fonts).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def blocks(engine: Engine) -> gr.Blocks:
    """The page."""
    parts = Events(engine)
    with gr.Blocks(title="Captioner", analytics_enabled=False, delete_cache=_KEPT) as found:
        gr.Markdown("# Captioner\nA caption for your picture, and answers to questions about it.")
        parts["state"] = live("state")
        with gr.Tab("One picture"):
            parts["shown"], parts["asked"] = gr.State(Shown()), gr.State(())
            with gr.Row():
                with gr.Column(min_width=280):
                    _picture(parts)
                with gr.Column(min_width=280):
                    _results(parts)
        with gr.Tab("Many pictures"):
            _many(parts, engine.settings.max_body)
        _connect(parts, found)
    # Gradio takes any path of the server's for an upload, unless a page has been launched.
    found.has_launched = True
    found.queue(default_concurrency_limit=engine.settings.max_requests, api_open=False)
    return found


def _picture(parts: Events) -> None:
    options = {"sources": ["upload", "clipboard", "webcam"], "height": 340}
    options |= {"buttons": [], "placeholder": "Drop or choose a picture"}
    parts["picture"] = gr.Image(label="Picture", elem_id="picture", **options)
    with gr.Row():
        for path in EXAMPLES:
            options = {"icon": path, "size": "sm", "min_width": 120, "elem_classes": "example"}
            parts[path.stem] = gr.Button(f"Try the {path.stem}", **options)
    search_settings.add(parts)


def _results(parts: Events) -> None:
    gr.Markdown("## Caption")
    parts["problem"] = live("problem")
    parts["caption"] = live("caption", value=note(HINT))
    with gr.Column(visible=False) as parts["further"]:
        label = "Words: choose one to see where the model looked"
        parts["words"] = gr.Radio([], label=label, elem_id="words")
        parts["seen"] = gr.Image(visible=False, buttons=[], interactive=False, elem_id="seen")
        parts["questions"] = gr.Markdown("## Questions")
        with gr.Row():
            parts["question"] = text_box("Your question", "what color is the dog?", scale=4)
            parts["ask"] = gr.Button("Ask", variant="primary", min_width=80, scale=1, elem_id="ask")
        parts["question_trouble"] = live("question-trouble")
        parts["answer"] = live("answer")
        parts["earlier"] = gr.HTML(elem_id="earlier", apply_default_css=False)
        gr.Markdown("## Correction")
        parts["text"] = text_box("Mend the caption where it is wrong", "", lines=2)
        parts["save"] = gr.Button("Save correction")
        parts["saved"] = live("saved")


def _many(parts: Events, largest: int) -> None:
    size = largest / 2**20
    gr.Markdown(
        f"Up to {size:g} MB each and {size * UPLOADED:g} MB in all. The settings of the other tab"
        " apply here as well, except for the number of captions: each picture gets one."
    )
    parts["files"] = gr.File(file_count="multiple", label="Pictures", height=200, elem_id="files")
    parts["start"] = gr.Button("Caption all", variant="primary")
    parts["batch_trouble"] = live("batch-trouble")
    parts["table"] = live("table", min_height=80)
    with gr.Row():
        parts["csv"] = gr.DownloadButton("Download CSV", visible=False)
        parts["jsonl"] = gr.DownloadButton("Download JSONL", visible=False)


def _connect(parts: Events, page: gr.Blocks) -> None:
    """Have the handlers called."""

    def on(
        triggers: str, handler: Callable, inputs: str, outputs: str, busy: str = "", **options: Any
    ) -> None:
        """Names stand for components; a trigger's name has its event behind a point."""
        each = [trigger.split(".") for trigger in triggers.split()]
        gr.on(
            [getattr(parts[name], event) for name, event in each],
            handler,
            [parts[name] for name in inputs.split()],
            [parts[name] for name in outputs.split()],
            show_progress="full" if busy else "hidden",
            show_progress_on=parts[busy] if busy else None,
            api_visibility="private",
            # Gradio would open pictures with Pillow in this process, before a handler has them.
            preprocess=False,
            **options,
        )

    caption = "picture problem caption words seen shown text saved further"
    fresh = f"{caption} asked answer earlier question_trouble"
    latest = {"trigger_mode": "always_last"}
    on("picture.input", parts.describe, f"picture {NAMES}", fresh, "caption", **latest)
    for path in EXAMPLES:
        example = partial(parts.example, str(path))
        on(f"{path.stem}.click", example, NAMES, fresh, "caption")
    again = "again.click include.submit ban.submit"
    on(again, parts.again, f"shown {NAMES}", caption, "caption")
    on("words.input", parts.look, "shown words", "problem seen", **latest)
    asked = "question_trouble question asked answer earlier"
    on("ask.click question.submit", parts.ask, "shown asked question", asked, "answer")
    on("save.click text.submit", parts.save, "shown text", "saved", "saved")
    many = "batch_trouble table csv jsonl"
    on("start.click", parts.batch, f"files {NAMES}", many, "table")
    on("sample.input", parts.switch, "sample", "heat share seed beams include")
    parts["page"] = page
    of_model = "state beams least most questions question ask"
    on("page.load", parts.begin, "", of_model, concurrency_limit=None)
