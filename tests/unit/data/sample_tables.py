"""Tables of drawn images for the tests of samples and batches."""

from __future__ import annotations

from pathlib import Path

from drawn_images import SHAPES, Table, draw

from captioner.data.dataset import Augmentation, ImageDataset, Sample
from captioner.images.transforms import PixelSpec
from captioner.tokenizer import Tokenizer

SPEC = PixelSpec((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


FLIPPING = Augmentation(min_scale=0.5, flip=True, jitter=0.2)


def image_table(pictures: list[str], captions: list[list[str]] | None = None) -> Table:
    captions = captions or [[f"a {c} {s} on the {side}"] for c, s, side in SHAPES]
    return Table(table_row(p, *texts) for p, texts in zip(pictures, captions, strict=False))


def table_row(picture: str, *texts: str, question: str = "", source: int = 0) -> dict:
    """Return the row of a captioned image, or of a question with its answers."""
    row = {"image": picture, "audio": "", "references": list(texts)}
    return row | {"question": question, "source": source}


def make_dataset(some_rows: Table, tokenizer: Tokenizer, **kwargs) -> ImageDataset:
    kwargs = {"spec": SPEC, "max_length": 40, **kwargs}
    return ImageDataset(some_rows, tokenizer=tokenizer, **kwargs)


def decode_texts(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in sample.texts]


def question_row(picture: str, question: str, *answers: str, source: int = 0) -> dict:
    return table_row(picture, *answers, question=question, source=source)


def decode_questions(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in sample.questions]


def train_tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle on the left side", "the right one"] * 20, vocab_size=330)


def draw_pictures(folder: Path) -> list[str]:
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(len(SHAPES))]
