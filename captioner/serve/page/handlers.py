"""What is done on the page: from what people choose, type and press to what changes there.

Each handler returns what changes, by the component; whatever goes wrong is one sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.errors import CaptionerError
from captioner.images.file_types import identify_format
from captioner.images.heatmap import overlay
from captioner.serve.corrections import Corrections
from captioner.serve.engine import Engine
from captioner.serve.engine import Picture as Seen
from captioner.serve.page import html
from captioner.serve.page.components import folder, gr, offered
from captioner.serve.page.file_table import caption_files, read_file, sentence, to_csv, to_jsonl
from captioner.serve.page.search_settings import decoding
from captioner.serve.routes.fields import check
from captioner.serve.routes.native_fields import VqaRequest

ALTERNATIVES = 3
"""Answers to a question, the likeliest included."""
LOADING = "The model is being loaded; you can choose a picture in a moment."
FAILED = "The model cannot be loaded."
ONLY_CAPTIONS = "This model writes captions only; it answers no questions."
HINT = "Choose a picture: its caption appears here."
CHOOSE = "Choose a picture first."
_OVERLAY = 480
"""Pixels of the longer side of what shows where the model looked."""
_IN_BROWSERS = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF", "ICO"}


@dataclass(frozen=True)
class Shown:
    """The picture on the page, and its caption."""

    path: str = ""
    caption: str = ""


NOTHING = {
    "picture": None,
    "shown": Shown(),
    "asked": (),
    "caption": html.note(HINT),
    "further": gr.update(visible=False),
} | dict.fromkeys(("problem", "question_trouble", "answer", "earlier", "saved"), "")
"""What the page says of no picture."""


def told(place: str) -> Callable[[Callable], Callable]:
    """For handlers: has a place in the server while it works, and says in `place` what is wrong."""

    def wrap(handler: Callable) -> Callable:
        @wraps(handler)
        async def run(self: Events, *args: Any, **kwargs: Any) -> dict:
            try:
                with self.engine.slot():
                    changed = await handler(self, *args, **kwargs)
            except CaptionerError as error:
                return {self[place]: html.trouble(sentence(error))}
            return {self[name]: value for name, value in ({place: ""} | changed).items()}

        return run

    return wrap


class Events:
    """The handlers of one page, and its components by name."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.corrections = Corrections(engine.settings.corrections)
        self._parts: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __setitem__(self, name: str, part: Any) -> None:
        self._parts[name] = part

    async def begin(self) -> AsyncIterator[dict]:
        """The page is opened: say whether the model is there, and what it can do once it is."""
        while (captioner := self.engine.captioner) is None:
            yield {self["state"]: html.note(FAILED if self.engine.failure else LOADING)}
            await asyncio.sleep(0.2)
        defaults, longest = captioner.config.decoding, self.engine.longest
        changed = {
            "state": "",
            "beams": gr.update(value=defaults.beam_size),
            "least": gr.update(value=defaults.min_length, maximum=longest - 1),
            "most": gr.update(value=defaults.max_length, maximum=longest),
        }
        if captioner.config.model.question is None:
            changed |= {name: gr.update(visible=False) for name in ("question", "ask")}
            changed |= {"questions": f"## Questions\n{ONLY_CAPTIONS}"}
        yield {self[name]: value for name, value in changed.items()}

    async def describe(self, upload: dict[str, Any] | None, *settings: Any) -> dict:
        """A picture has been chosen, or taken away: caption it, and forget the one before."""
        changed = await self._described(upload and upload.get("path"), settings)
        return {self[name]: value for name, value in NOTHING.items()} | changed

    async def example(self, path: str, *settings: Any) -> dict:
        """One of the bundled pictures has been chosen."""
        changed = await self._described(path, settings)
        if self["picture"] in changed:
            changed[self["picture"]] |= {"value": path}
        return {self[name]: value for name, value in NOTHING.items()} | changed

    @told("problem")
    async def _described(self, path: str | None, settings: Sequence[Any]) -> dict:
        if not path:
            return {}
        data = await read_file(offered(path))
        picture = await self.engine.read(data)
        changed = await self._caption(path, picture, settings)
        if identify_format(data) not in _IN_BROWSERS:
            changed["picture"] |= {"value": as_it_was(picture)}
        return changed

    @told("problem")
    async def again(self, shown: Shown, *settings: Any) -> dict:
        """Caption the same picture, by other settings."""
        return await self._caption(shown.path, await self._read(shown), settings)

    async def _caption(self, path: str, picture: Seen, settings: Sequence[Any]) -> dict:
        count, options = decoding(settings, longest=self.engine.longest)
        result = await self.engine.caption(picture, num_captions=count, options=options)
        words = [(word, place) for place, word in enumerate(result.text.split())]
        return {
            "picture": gr.update(alt_text=result.text),
            "caption": html.caption(result),
            "further": gr.update(visible=True),
            "words": gr.update(choices=words, value=None),
            "seen": gr.update(value=None, visible=False),
            "shown": Shown(path, result.text),
            "text": result.text,
            "saved": "",
        }

    @told("problem")
    async def look(self, shown: Shown, place: int) -> dict:
        """Show where the model looked for a word of the caption."""
        picture = await self._read(shown)
        words = await self.engine.attention(picture, shown.caption)
        if place >= len(words):  # of a caption that has been replaced meanwhile
            return {}
        word = words[place]
        label = f"Where the model looked for “{word.word}”: bright places"
        # The small picture is all that the model saw, which is what the weights cover.
        heat = overlay(as_it_was(picture), word.weights)
        return {"seen": gr.update(value=heat, label=label, alt_text=label, visible=True)}

    @told("question_trouble")
    async def ask(self, shown: Shown, asked: tuple, question: str) -> dict:
        """Answer a question, and keep those before it in sight."""
        picture = await self._read(shown)
        checked = check(VqaRequest, {"question": question, "num_answers": ALTERNATIVES})
        answers = await self.engine.ask(picture, checked.question, num_answers=ALTERNATIVES)
        return {
            "question": "",
            "asked": (*asked, (question, answers)),
            "answer": html.answer(question, answers),
            "earlier": html.earlier(asked),
        }

    @told("saved")
    async def save(self, shown: Shown, text: str) -> dict:
        """Keep the picture with the caption that somebody has mended."""
        if not shown.path:
            raise CaptionerError(CHOOSE)
        data = await read_file(shown.path)
        count = await asyncio.to_thread(self.corrections.save, data, text)
        return {"saved": html.note(f"Saved. Corrected pictures so far: {count}.")}

    async def batch(
        self,
        uploads: list[dict[str, Any]] | None,
        *settings: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it here
    ) -> dict:
        """Caption many files; what is wrong with one stands in its row."""
        try:
            if not uploads:
                raise CaptionerError("Choose some pictures first.")
            with self.engine.slot():  # the server must be ready, and the settings make sense
                _, options = decoding(settings, longest=self.engine.longest)
            progress(0, "Captioning")
            paths = [offered(upload.get("path")) for upload in uploads]
            count = len(paths)
            rows = await caption_files(
                self.engine, paths, options, lambda done: progress((done, count), unit="pictures")
            )
        except CaptionerError as error:
            return {self["batch_trouble"]: html.trouble(sentence(error))}
        place = Path(folder())
        changed = {self["batch_trouble"]: "", self["table"]: html.batch(rows)}
        for name, text in (("csv", to_csv(rows)), ("jsonl", to_jsonl(rows))):
            path = place / f"captions.{name}"
            path.write_text(text, encoding="utf-8")
            changed[self[name]] = gr.update(value=str(path), visible=True)
        return changed

    def switch(self, sample: bool) -> dict:
        """Show the settings of sampling, or those of a search."""
        changed = {name: gr.update(visible=sample) for name in ("heat", "share", "seed")}
        changed |= {name: gr.update(visible=not sample) for name in ("beams", "include")}
        return {self[name]: value for name, value in changed.items()}

    async def _read(self, shown: Shown) -> Seen:
        if not shown.path:
            raise CaptionerError(CHOOSE)
        return await self.engine.read(await read_file(shown.path))


def as_it_was(picture: Seen) -> Image.Image:
    """The small picture in the proportions of the file."""
    scale = _OVERLAY / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.image.resize(size, Image.Resampling.BICUBIC)
