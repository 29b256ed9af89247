"""Layout of the web page, and its mounting in the server's application.

The page loads nothing from other servers and sends nothing to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI

from captioner.serve.engine import Engine
from captioner.serve.middleware import UPLOAD_FACTOR
from captioner.serve.page.components import EXAMPLES, gr, live_region, text_box
from captioner.serve.page.handlers import HINT, TITLE, CurrentInput, PageHandlers
from captioner.serve.page.html import format_note
from captioner.serve.page.search_settings import NAMES, add_settings

_DELETE_CACHE = (3600, 24 * 3600)
"""Interval between deletions of old uploads, and the minimum age of such uploads, in seconds."""
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


def mount_page(app: FastAPI, engine: Engine) -> FastAPI:
    """Mount the page at the application's root."""
    return gr.mount_gradio_app(
        app,
        create_page(engine),
        path="/",
        max_file_size=engine.settings.max_body,
        theme=_create_theme(),
        css_paths=Path(__file__).with_name("page.css"),
        allowed_paths=[str(path) for path in EXAMPLES],
        ssr_mode=False,
        footer_links=[],
    )


def _create_theme() -> gr.themes.Base:
    """Return a theme with system fonts, and colors with the contrast of WCAG 2.2, level AA."""
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=("ui-monospace", "monospace")
    ).set(
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


def create_page(engine: Engine) -> gr.Blocks:
    """Create the page and connect its events to the handlers."""
    handlers = PageHandlers(engine)
    parts = handlers.parts
    with gr.Blocks(title="Captioner", analytics_enabled=False, delete_cache=_DELETE_CACHE) as page:
        parts["title"] = gr.Markdown(TITLE.format("image"))
        parts["status"] = live_region("status")
        with gr.Tab("One image") as parts["one"]:
            parts["current"], parts["history"] = gr.State(CurrentInput()), gr.State(())
            with gr.Row():
                with gr.Column(min_width=280):
                    _add_inputs(parts)
                with gr.Column(min_width=280):
                    _add_results(parts)
        with gr.Tab("Many images") as parts["many"]:
            _add_many_images(parts, engine.settings.max_body)
        parts["page"] = page
        _connect_events(handlers)
    # Before a page is launched, Gradio accepts any path of the server as an upload.
    page.has_launched = True
    page.queue(default_concurrency_limit=engine.settings.max_requests, api_open=False)
    return page


def _add_inputs(parts: dict[str, Any]) -> None:
    parts["image"] = gr.Image(
        label="Image",
        elem_id="image",
        sources=["upload", "clipboard", "webcam"],
        height=340,
        buttons=[],
        placeholder="Drop or choose an image",
    )
    # Shown if the model takes recordings.
    parts["audio"] = gr.Audio(
        label="Recording",
        elem_id="audio",
        sources=["upload", "microphone"],
        type="filepath",
        format="wav",
        buttons=[],
        visible=False,
    )
    with gr.Row():
        for path in EXAMPLES:
            parts[path.stem] = gr.Button(
                f"Try the {path.stem}", icon=path, size="sm", min_width=120, elem_classes="example"
            )
    add_settings(parts)


def _add_results(parts: dict[str, Any]) -> None:
    gr.Markdown("## Caption")
    parts["error"] = live_region("error")
    parts["caption"] = live_region("caption", value=format_note(HINT))
    with gr.Column(visible=False) as parts["details"]:
        label = "Words: choose one to see where the model looked"
        parts["words"] = gr.Radio([], label=label, elem_id="words")
        parts["attention"] = gr.Image(
            visible=False, buttons=[], interactive=False, elem_id="attention"
        )
        parts["questions"] = gr.Markdown("## Questions")
        with gr.Row():
            parts["question"] = text_box("Your question", "what color is the dog?", scale=4)
            parts["ask"] = gr.Button("Ask", variant="primary", min_width=80, scale=1, elem_id="ask")
        parts["question_error"] = live_region("question-error")
        parts["answer"] = live_region("answer")
        parts["earlier"] = gr.HTML(elem_id="earlier", apply_default_css=False)
        gr.Markdown("## Correction")
        parts["correction"] = text_box("Correct the caption if it is wrong", "", lines=2)
        parts["save"] = gr.Button("Save correction")
        parts["saved"] = live_region("saved")


def _add_many_images(parts: dict[str, Any], max_bytes: int) -> None:
    size = max_bytes / 2**20
    gr.Markdown(
        f"Up to {size:g} MB each and {size * UPLOAD_FACTOR:g} MB in all. The settings of the other"
        " tab apply here as well, except for the number of captions: each image gets one."
    )
    parts["files"] = gr.File(file_count="multiple", label="Images", height=200, elem_id="files")
    parts["start"] = gr.Button("Caption all", variant="primary")
    parts["files_error"] = live_region("files-error")
    parts["table"] = live_region("table", min_height=80)
    with gr.Row():
        parts["csv"] = gr.DownloadButton("Download CSV", visible=False)
        parts["jsonl"] = gr.DownloadButton("Download JSONL", visible=False)


def _connect_events(page: PageHandlers) -> None:
    caption = "image audio error caption words attention current correction saved details"
    everything = f"{caption} history answer earlier question_error"
    inputs = f"image audio {NAMES}"
    _connect(
        page,
        "image.input audio.input audio.clear",
        page.show_upload,
        inputs,
        everything,
        "caption",
        latest=True,
    )
    for path in EXAMPLES:
        example = partial(page.show_example, str(path))
        _connect(page, f"{path.stem}.click", example, NAMES, everything, "caption")
    again = "again.click must_include.submit banned.submit"
    _connect(page, again, page.caption_again, f"current {NAMES}", caption, "caption")
    word = "current words"
    _connect(page, "words.input", page.show_attention, word, "error attention", latest=True)
    answer = "question_error question history answer earlier"
    ask = "ask.click question.submit"
    _connect(page, ask, page.answer_question, "current history question", answer, "answer")
    save = "save.click correction.submit"
    _connect(page, save, page.save_correction, "current correction", "saved", "saved")
    table = "files_error table csv jsonl"
    _connect(page, "start.click", page.caption_uploads, f"files {NAMES}", table, "table")
    settings = "temperature top_p seed beam_size must_include"
    _connect(page, "sample.input", page.show_sampling, "sample", settings)
    model = (
        "status beam_size min_length max_length questions question ask image audio title one many"
    )
    model = " ".join([model, *(path.stem for path in EXAMPLES)])
    _connect(page, "page.load", page.load_page, "", model, limit=None)


def _connect(
    page: PageHandlers,
    triggers: str,
    handler: Callable[..., Any],
    inputs: str,
    outputs: str,
    busy: str = "",
    *,
    latest: bool = False,
    limit: int | Literal["default"] | None = "default",
) -> None:
    """Call a handler on events; components are given by name, events such as `ask.click`.

    The component `busy` shows the progress, and `limit` is the maximum number of concurrent
    calls. Events during a call are ignored; with `latest`, the last of them starts another call.
    """
    events = [trigger.split(".") for trigger in triggers.split()]
    gr.on(
        [getattr(page[name], event) for name, event in events],
        handler,
        [page[name] for name in inputs.split()],
        [page[name] for name in outputs.split()],
        show_progress="full" if busy else "hidden",
        show_progress_on=page[busy] if busy else None,
        api_visibility="private",
        # Otherwise Gradio decodes images with Pillow in this process, before the handler runs.
        preprocess=False,
        trigger_mode="always_last" if latest else None,
        concurrency_limit=limit,
    )
