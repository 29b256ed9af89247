"""Event handlers of the page.

Each handler returns the new values of components; an error becomes a sentence on the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias

from PIL import Image

from captioner.errors import CaptionerError
from captioner.images.file_types import identify_format
from captioner.images.heatmap import overlay
from captioner.serve.corrections import Corrections
from captioner.serve.decoder_pool import DecodedInput
from captioner.serve.engine import Engine
from captioner.serve.page import html
from captioner.serve.page.components import EXAMPLES, check_upload, create_folder, gr
from captioner.serve.page.file_table import caption_files, format_error, read_file, to_csv, to_jsonl
from captioner.serve.page.search_settings import read_settings
from captioner.serve.routes.fields import validate
from captioner.serve.routes.native_fields import VqaRequest

if TYPE_CHECKING:
    from captioner.predict.results import Answers, Caption

    History = tuple[tuple[str, Answers], ...]
    P = ParamSpec("P")
    Handler: TypeAlias = Callable[Concatenate["PageHandlers", P], Awaitable["Updates"]]

Updates = dict[Any, Any]
"""New values, by the component or by its name."""

TITLE = "# Captioner\nA caption for your {}, and answers to questions about it."
NUM_ANSWERS = 3
"""Answers to a question, the best included."""
LOADING = "The model is being loaded; you can choose a file in a moment."
FAILED = "The model cannot be loaded."
NO_QUESTIONS = "This model writes captions only; it does not answer questions."
HINT = "Choose a file: its caption appears here."
CHOOSE = "Choose a file first."
_OVERLAY_SIZE = 480
"""Pixels of the longer side of the attention overlay."""
_BROWSER_FORMATS = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF", "ICO"}


@dataclass(frozen=True)
class CurrentInput:
    """The image and the recording on the page, and their caption."""

    image: str = ""
    """Path of the image; empty without one."""
    audio: str = ""
    """Path of the recording; empty without one."""
    caption: Caption | None = None

    async def read(self) -> list[bytes]:
        """Return the content of the files; raise CaptionerError if there is none."""
        paths = [path for path in (self.image, self.audio) if path]
        if not paths:
            raise CaptionerError(CHOOSE)
        return [await read_file(check_upload(path)) for path in paths]


EMPTY_PAGE: Updates = {
    "image": None,
    "audio": None,
    "current": CurrentInput(),
    "history": (),
    "caption": html.format_note(HINT),
    "details": gr.update(visible=False),
} | dict.fromkeys(("error", "question_error", "answer", "earlier", "saved"), "")
"""The values of a page without an input."""


def report_errors(place: str) -> Callable[[Handler[P]], Handler[P]]:
    """Decorate a handler: count its request, and show an error in `place` or clear that component.

    The handler returns updates by name; the decorated one returns them by component.
    """

    def decorate(handler: Handler[P]) -> Handler[P]:
        @wraps(handler)
        async def run(self: PageHandlers, /, *args: P.args, **kwargs: P.kwargs) -> Updates:
            try:
                with self.engine.slot():
                    updates = await handler(self, *args, **kwargs)
            except CaptionerError as error:
                return {self[place]: html.format_alert(format_error(error))}
            return self._by_component({place: ""} | updates)

        return run

    return decorate


class PageHandlers:
    """The handlers of one page, and its components by name."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.corrections = Corrections(engine.settings.corrections)
        self.parts: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a component."""
        return self.parts[name]

    def _by_component(self, updates: Updates) -> Updates:
        return {self[name]: value for name, value in updates.items()}

    async def load_page(self) -> AsyncIterator[Updates]:
        """Show whether the model is loaded and, once it is, its defaults and limits."""
        while (captioner := self.engine.captioner) is None:
            text = FAILED if self.engine.failure else LOADING
            yield self._by_component({"status": html.format_note(text)})
            await asyncio.sleep(0.2)
        defaults, longest = captioner.config.decoding, captioner.max_length
        updates = {
            "status": "",
            "beam_size": gr.update(value=defaults.beam_size),
            "min_length": gr.update(value=defaults.min_length, maximum=longest - 1),
            "max_length": gr.update(value=defaults.max_length, maximum=longest),
        }
        if captioner.config.model.question is None:
            updates |= {name: gr.update(visible=False) for name in ("question", "ask")}
            updates["questions"] = f"## Questions\n{NO_QUESTIONS}"
        if captioner.audio_rate is not None:
            updates |= _show_recordings(beside_images=captioner.view is not None)
        yield self._by_component(updates)

    async def show_upload(
        self, image: dict[str, Any] | None, audio: dict[str, Any] | None, *settings: Any
    ) -> Updates:
        """Caption an uploaded image, a recording or both; without them, clear the page."""
        paths = [(upload or {}).get("path") or "" for upload in (image, audio)]
        updates = await self._caption_files(CurrentInput(paths[0], paths[1]), settings)
        return self._by_component(EMPTY_PAGE) | updates

    async def show_example(self, path: str, *settings: Any) -> Updates:
        """Caption one of the example images."""
        updates = await self._caption_files(CurrentInput(path), settings)
        if self["image"] in updates:
            updates[self["image"]] |= {"value": path}
        return self._by_component(EMPTY_PAGE) | updates

    @report_errors("error")
    async def _caption_files(self, current: CurrentInput, settings: Sequence[Any]) -> Updates:
        if not (current.image or current.audio):
            return {}
        files = await current.read()
        decoded = await self.engine.decode(*files)
        updates = await self._caption_current(current, decoded, settings)
        if decoded.image and identify_format(files[0]) not in _BROWSER_FORMATS:
            updates["image"] |= {"value": restore_proportions(decoded)}
        return updates

    @report_errors("error")
    async def caption_again(self, current: CurrentInput, *settings: Any) -> Updates:
        """Caption the current input with the current settings."""
        decoded = await self.engine.decode(*await current.read())
        return await self._caption_current(current, decoded, settings)

    async def _caption_current(
        self, current: CurrentInput, decoded: DecodedInput, settings: Sequence[Any]
    ) -> Updates:
        count, options = read_settings(settings, max_length=self.engine.loaded.max_length)
        result = await self.engine.caption(decoded, num_captions=count, options=options)
        words = [(word, index) for index, word in enumerate(result.text.split())]
        return {
            "image": gr.update(alt_text=result.text) if current.image else None,
            "audio": gr.update() if current.audio else None,
            "caption": html.format_caption(result),
            "details": gr.update(visible=True),
            # Attention is shown on an image.
            "words": gr.update(choices=words, value=None, visible=decoded.image is not None),
            "attention": gr.update(value=None, visible=False),
            "current": replace(current, caption=result.best),
            "correction": result.text,
            "saved": "",
        }

    @report_errors("error")
    async def show_attention(self, current: CurrentInput, index: int) -> Updates:
        """Show the attention map of a word of the caption."""
        decoded = await self.engine.decode(*await current.read())
        words = await self.engine.attention(decoded, current.caption) if current.caption else []
        if index >= len(words):  # the caption has been replaced meanwhile
            return {}
        word = words[index]
        label = f"Attention for “{word.word}”: the model looked at the bright places"
        # The reduced image is the input of the model, which the weights refer to.
        heat = overlay(restore_proportions(decoded), word.weights)
        return {"attention": gr.update(value=heat, label=label, alt_text=label, visible=True)}

    @report_errors("question_error")
    async def answer_question(
        self, current: CurrentInput, history: History, question: str
    ) -> Updates:
        """Answer a question, and show the earlier ones below."""
        decoded = await self.engine.decode(*await current.read())
        fields = validate(VqaRequest, {"question": question, "num_answers": NUM_ANSWERS})
        answers = await self.engine.answer(decoded, fields.question, num_answers=NUM_ANSWERS)
        return {
            "question": "",
            "history": (*history, (question, answers)),
            "answer": html.format_answer(question, answers),
            "earlier": html.format_history(history),
        }

    @report_errors("saved")
    async def save_correction(self, current: CurrentInput, text: str) -> Updates:
        """Save the files with their corrected caption."""
        files = await current.read()
        count = await asyncio.to_thread(self.corrections.save, files, text)
        return {"saved": html.format_note(f"Saved. Corrected captions so far: {count}.")}

    async def caption_uploads(
        self,
        uploads: list[dict[str, Any]] | None,
        *settings: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio expects it as a default
    ) -> Updates:
        """Caption many files; an error of one file is shown in its row."""
        try:
            if not uploads:
                raise CaptionerError("Choose images first.")
            with self.engine.slot():  # reject the request now if the server is not ready
                _, options = read_settings(settings, max_length=self.engine.loaded.max_length)
            progress(0, "Captioning")
            paths = [check_upload(upload.get("path")) for upload in uploads]
            count = len(paths)
            rows = await caption_files(
                self.engine, paths, options, lambda done: progress((done, count), unit="images")
            )
        except CaptionerError as error:
            return {self["files_error"]: html.format_alert(format_error(error))}
        folder = Path(create_folder())
        updates: Updates = {"files_error": "", "table": html.format_files(rows)}
        for name, text in (("csv", to_csv(rows)), ("jsonl", to_jsonl(rows))):
            path = folder / f"captions.{name}"
            path.write_text(text, encoding="utf-8")
            updates[name] = gr.update(value=str(path), visible=True)
        return self._by_component(updates)

    def show_sampling(self, sample: bool) -> Updates:
        """Show the settings of sampling, or those of beam search."""
        updates = {name: gr.update(visible=sample) for name in ("temperature", "top_p", "seed")}
        updates |= {name: gr.update(visible=not sample) for name in ("beam_size", "must_include")}
        return self._by_component(updates)


def _show_recordings(*, beside_images: bool) -> Updates:
    """Return the updates for a model that takes recordings, alone or beside images."""
    updates: Updates = {"audio": gr.update(visible=True), "title": TITLE.format("recording")}
    if beside_images:
        updates["title"] = TITLE.format("image or recording")
    else:
        names = ("image", *(path.stem for path in EXAMPLES))
        updates |= {name: gr.update(visible=False) for name in names}
    return updates | {"one": gr.update(label="One file"), "many": gr.update(label="Many files")}


def restore_proportions(decoded: DecodedInput) -> Image.Image:
    """Return the reduced image with the proportions of the file; raise an error without one."""
    if decoded.image is None:
        raise CaptionerError(CHOOSE)
    scale = _OVERLAY_SIZE / max(decoded.size)
    width, height = (max(1, round(side * scale)) for side in decoded.size)
    return decoded.image.resize((width, height), Image.Resampling.BICUBIC)
