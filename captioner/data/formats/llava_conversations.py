"""Reader of the conversations about images that LLaVA is trained on.

Source of the layout: Liu et al., "Visual instruction tuning", NeurIPS 2023, arXiv:2304.08485.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioner.data.example import Example, split_in_file_name
from captioner.data.formats.image_folders import choose_image_folder
from captioner.data.formats.io import Source, list_files, read_head, read_json
from captioner.data.report import BAD_ROW, DUPLICATE, Report
from captioner.errors import DataError

NO_IMAGE = "conversation without an image"
SEVERAL_IMAGES = "conversation about several images"
UNPAIRED_TURN = "turn of a conversation without a question or an answer"

_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant")
_PLACEHOLDER = re.compile(r"\s*<image>\s*")
_KEY = re.compile(r'"conversations"\s*:\s*\[')
_FOLDERS = ("train2017", "coco/train2017", "images")
_OCR_HINT = "\nreference ocr token"
"""Start of the words read in an image, which LLaVA-1.5 appends to prompts for TextCaps."""

# A prompt asks for a description if it consists of these words only, so that "describe the man in
# the image" is a question.
_REQUEST_TEXT = """
describe summarize summarise provide offer give share present relay render write create explain
clarify characterize break walk portray narrate analyze illustrate examine caption generate
elaborate tell
"""
_OTHER_TEXT = """
a an the this that of in on for with and or to me you us i it its please can could would do does
think see is are be there going about before through down following given provided presented
displayed subsequent shown visual content contents description explanation summary interpretation
account narrative depiction rundown analysis manner detail details detailed aspects elements
features main key important various concise concisely brief briefly short clear clearly succinct
compact terse simple thorough comprehensive elaborate exhaustive rich descriptive informative great
well well-detailed precision precise closely one sentence one-sentence few words photo's image's
picture's representing happening depicted shows look like
"""
_REQUESTS = frozenset(_REQUEST_TEXT.split())
_QUESTION_WORDS = frozenset(("what", "what's", "how"))
_IMAGE_NOUNS = frozenset(("image", "picture", "photo", "photograph", "scene", "snapshot"))
_KNOWN_WORDS = frozenset(_OTHER_TEXT.split()) | _REQUESTS | _QUESTION_WORDS | _IMAGE_NOUNS


@dataclass
class _Caption:
    """The captions of an image, from all its conversations."""

    split: str
    texts: list[str] = field(default_factory=list)


def find_llava(root: Path) -> tuple[Path, ...]:
    """Return the JSON with conversations, given or in `root`; or `train.json`, `val.json`, ....

    Raises:
        DataError: A folder holds several such files, which may repeat each other's rows.
    """
    if root.is_file():
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        return (root,) if head.lstrip().startswith("[") and _KEY.search(head) else ()
    files = [path for path in list_files(root, ".json") if find_llava(path)]
    splits = [path for path in files if split_in_file_name(path)]
    if len(files) > 1 and not splits:
        names = ", ".join(path.name for path in files[:4])
        raise DataError(f"{root}: holds several sets of conversations ({names}); give one path")
    return tuple(splits or files)


def read_llava(source: Source) -> Iterator[Example]:
    """Read a list `[{id, image, conversations: [{from: human | gpt, value}, ...]}]`.

    The reply to a first turn that asks for a description is a caption of the image. Any other turn
    of a human and the reply to it are a question and its answer, even if the turn depends on
    earlier ones. The key of an image is its file name, since ids are repeated.
    """
    captions: dict[str, _Caption] = {}
    for path in source.files:
        split = split_in_file_name(path) or "train"
        rows = list(_parse_rows(path, source.report))
        names = list(dict.fromkeys(image for _, image, _ in rows))
        folder = choose_image_folder(source, names, folders=_FOLDERS)
        for where, image, turns in rows:
            file = str(folder / image)
            for number, (prompt, reply) in enumerate(_pair_turns(turns, where, source.report)):
                if number or not asks_for_description(prompt):
                    key = f"{where}.{number}"
                    yield Example(file, image, (reply,), split, prompt, key)
                    continue
                own = captions.setdefault(image, _Caption(split))
                if own.split == split:
                    own.texts.append(reply)
                else:
                    place = f"{image} is in {own.split} and in {split} ({where})"
                    source.report.add(DUPLICATE, place, rows=1)
        for image in names:
            if image in captions and captions[image].split == split:
                own = captions[image]
                texts, own.texts = tuple(own.texts), []
                if texts:
                    file = str(folder / image)
                    yield Example(file, image, texts, split, rows=len(texts))


def asks_for_description(prompt: str) -> bool:
    """Return whether a prompt asks to describe the whole image, and nothing else."""
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", prompt.lower().replace("\u2019", "'"))
    if not _KNOWN_WORDS.issuperset(words):
        return False
    is_question = not _QUESTION_WORDS.isdisjoint(words) and not _IMAGE_NOUNS.isdisjoint(words)
    return is_question or not _REQUESTS.isdisjoint(words)


def _parse_rows(path: Path, report: Report) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield the place, the image and the turns of each conversation that can be used."""
    for index, row in enumerate(read_json(path, kind=list)):
        where = f"{path.name}[{index}]"
        turns = row.get("conversations") if isinstance(row, dict) else None
        if not isinstance(turns, list):
            report.add(BAD_ROW, where, rows=1)
            continue
        images = row.get("image", row.get("images"))
        images = images if isinstance(images, list) else [images]
        match [image for image in images if image]:
            case [str(image)]:
                yield where, image, turns
            case []:
                report.add(NO_IMAGE, where, rows=1)
            case [_]:
                report.add(BAD_ROW, where, rows=1)
            case _:
                report.add(SEVERAL_IMAGES, where, rows=1)


def _pair_turns(turns: list[Any], where: str, report: Report) -> Iterator[tuple[str, str]]:
    """Yield each turn of a human with the reply to it; turns without a partner are reported."""
    prompt: str | None = None
    for turn in turns:
        speaker = turn.get("from") if isinstance(turn, dict) else None
        value = turn.get("value") if isinstance(turn, dict) else None
        if speaker == "system":
            continue
        if not isinstance(value, str) or speaker not in (*_HUMAN, *_MODEL):
            report.add(BAD_ROW, where)
            prompt = None
        elif speaker in _HUMAN:
            if prompt is not None:
                report.add(UNPAIRED_TURN, where)
            prompt = _clean_prompt(value)
        elif prompt is None:
            report.add(UNPAIRED_TURN, where)
        else:
            yield prompt, value
            prompt = None
    if prompt is not None:
        report.add(UNPAIRED_TURN, where)


def _clean_prompt(text: str) -> str:
    """Return a prompt without placeholders of the image and without words read in the image."""
    at = text.lower().find(_OCR_HINT)
    text = text if at < 0 else text[:at]
    return " ".join(part for part in _PLACEHOLDER.split(text) if part).strip()
