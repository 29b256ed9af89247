"""Features of public models: what each family supports, as a table of the documentation.

`PYTHONPATH=.:tests python tests/public_features.py` writes it into docs/public-models.md.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from public_folders.catalog import FAMILIES, TRAINED
from public_tokens import random_images

import captioner
from captioner import Captioner, CaptionerError

PAGE = Path(__file__).parents[1] / "docs" / "public-models.md"
BEGIN, END = "<!-- table of features: tests/public_features.py -->", "<!-- end of the table -->"
QUESTION = "is it"


def choose_word(model: Captioner) -> str:
    """Return a word that is one token."""
    pieces = (piece or "" for piece in model.tokenizer.list_pieces())
    words = (piece.strip() for piece in pieces if re.fullmatch(r" [a-z]+", piece))
    return next(words, "a")


def probe_captions(model: Captioner, image: Image.Image) -> None:
    results = model.caption([image] * 2, num_captions=2, beam_size=2, max_length=8)
    assert all(len(result.captions) == 2 for result in results)


def probe_sampling(model: Captioner, image: Image.Image) -> None:
    options: dict[str, Any] = {"method": "sample", "top_p": 0.9, "seed": 1, "max_length": 8}
    first, second = (model.caption(image, **options)[0] for _ in range(2))
    assert first.best.tokens == second.best.tokens


def probe_constraints(model: Captioner, image: Image.Image) -> None:
    word, options = choose_word(model), {"beam_size": 4, "max_length": 12}
    (required,) = model.caption(image, must_include=[word], **options)
    assert word in re.findall(r"[^\W_]+", required.text.lower())
    (banned,) = model.caption(image, banned=[word], **options)
    assert word not in re.findall(r"[^\W_]+", banned.text.lower())


def probe_stream(model: Captioner, image: Image.Image) -> None:
    text = model.caption(image, beam_size=1, max_length=8)[0].text
    assert "".join(model.stream(image, max_length=8)).strip() == text


def probe_score(model: Captioner, image: Image.Image) -> None:
    (scored,) = model.score(image, [choose_word(model)])
    assert -1000 < scored.logprob < 0


def probe_attention(model: Captioner, image: Image.Image) -> None:
    assert model.attention(image, choose_word(model))


def probe_questions(model: Captioner, image: Image.Image) -> None:
    encoded = model.encode(image)  # follow-up questions use the encoded image
    results = [model.ask(encoded, text, num_answers=2) for text in (QUESTION, "or")]
    assert all(0 <= answer.confidence <= 1 for result in results for answer in result.answers)


def probe_closed_answers(model: Captioner, image: Image.Image) -> None:
    known = [model.tokenizer.decode(ids) for ids in model.backend.answers[:2]]
    result = model.ask(image, QUESTION, answers=known or ["a", "b"], num_answers=2)
    assert abs(sum(answer.confidence for answer in result.answers) - 1) < 1e-4


PROBES: dict[str, Callable[[Captioner, Image.Image], None]] = {
    "captions, N-best": probe_captions,
    "sampling": probe_sampling,
    "required and banned words": probe_constraints,
    "streaming": probe_stream,
    "scores of texts": probe_score,
    "attention maps": probe_attention,
    "questions": probe_questions,
    "closed answers": probe_closed_answers,
}


def list_features(build: Callable[..., None], folder: Path) -> list[bool]:
    """Return which probes a family passes; one that it does not support raises CaptionerError."""
    build(folder, 0)
    model, (image,) = captioner.load(folder), random_images(1)
    supported = []
    for probe in PROBES.values():
        try:
            probe(model, image)
        except CaptionerError:
            supported.append(False)
        else:
            supported.append(True)
    return supported


def format_table(rows: Sequence[tuple[str, Sequence[bool]]]) -> str:
    """Return the Markdown table of families by features."""
    lines = [
        f"| family | {' | '.join(PROBES)} | fine-tuning |",
        "|---|" + "---|" * (len(PROBES) + 1),
    ]
    for name, supported in rows:
        marks = ("yes" if value else "no" for value in (*supported, name in TRAINED))
        lines.append(f"| {name} | {' | '.join(marks)} |")
    return "\n".join(lines)


def measure_table() -> str:
    """Return the table of all families."""
    rows = []
    for name, build in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append((name, list_features(build, Path(folder))))
    return format_table(rows)


def read_table() -> str:
    """Return the table in the documentation."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{measure_table()}\n{END}{after}", encoding="utf-8")
