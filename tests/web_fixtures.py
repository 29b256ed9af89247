"""Expected results of the page's TypeScript, computed by the Python package.

`python tests/web_fixtures.py` writes them to `web/tests/fixtures`. Images are not stored: both
sides generate their bytes by the same rule.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "web" / "tests" / "fixtures"
sys.path.insert(0, str(ROOT))

from captioner.config import AnswerConfidence, CaptionConfidence, to_dict  # noqa: E402
from captioner.images import fit, is_blank  # noqa: E402
from captioner.images.transforms import PixelSpec, to_pixels, visible_box  # noqa: E402
from captioner.predict.confidence import calibrate_answers, caption_confidence  # noqa: E402
from captioner.predict.results import Answer, Answers  # noqa: E402
from captioner.text import normalize_question  # noqa: E402
from captioner.tokenizer import Tokenizer  # noqa: E402

KINDS = ("unigram", "bpe")
# Width and height of the image and of the result, and the part of the image that is resized.
RESIZES: tuple[tuple[int, int, int, int, tuple[float, float, float, float] | None], ...] = (
    (500, 375, 384, 384, None),
    (375, 500, 224, 224, None),
    (640, 480, 32, 24, None),
    (7, 5, 16, 19, None),
    (1, 1, 8, 8, None),
    (3, 700, 5, 64, None),
    (1000, 2, 64, 64, None),
    (384, 384, 384, 384, None),
    (384, 200, 384, 384, None),
    (91, 63, 31, 33, (14.0, 0.0, 77.0, 63.0)),
    (90, 61, 24, 24, (14.5, 0.0, 75.5, 61.0)),
    (61, 90, 96, 48, (0.0, 29.75, 61.0, 60.25)),
)
PIXELS = (
    (50, 37, PixelSpec((24, 24), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
    (37, 50, PixelSpec((24, 24), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "crop")),
    (50, 37, PixelSpec((24, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "crop")),
    (24, 24, PixelSpec((24, 24), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), "crop")),
)
BLANKS = (
    ("noise", 64, 64),
    ("noise", 20, 200),
    ("noise", 4, 4),
    ("flat", 50, 40),
    ("steps", 50, 40),
    ("steps", 300, 200),
    ("gradient", 120, 80),
    ("gradient", 9, 9),
)
BLANK_SIZE = (48, 48)
SENTENCES = [
    "a dog runs on the green grass",
    "two dogs run through the water",
    "a man in a red shirt rides a bike",
    "what color is the dog",
    "how many people are there in the picture",
    "the boy's hat isn't blue, it is red and white",
    "caf\u00e9 \u00fcber \u00e9t\u00e9 na\u00efve",
    "\u65e5\u672c\u8a9e \u306e \u30c6\u30b9\u30c8",
    "0 1 2 3 4 5 6 7 8 9",
]
QUESTIONS = [
    "What color is the dog?", "  what\tcolor\n is it ??  ", "How many?!", "", "   ", "?", "...",
    "a . b", "a man 's hat .", "isn 't it ?", "is n't it", "\"What is this ?\"", "'quoted'",
    "\u201cquoted\u201d", "\u00abquoted\u00bb", "'a' and 'b'", '" big dog " runs',
    "say \" yes \" now", "( red ) [ blue ]", "50 % of it", "a , b ; c : d", "a.b", "a .b",
    "x 'Sx", "x 's", "x 'S", "x 'S\u00e9", "x 're here", "\u0130stanbul", "STRASSE \u1e9e",
    "\u039f\u0394\u039f\u03a3 \u03a3", "a\u00a0b\u3000c\u2028d\u0085e\x1cf", "a\ufeffb",
    "\u200b a", "tab\x0bvt\x0cff", "\U0001f600 ok ?", "\" \U0001f600 \" ?", "'\U0001f600'",
    "\u2018a\u2019 .", "a ?? ! .", "what is this . ?", "x 's_", "x 's-", "\u017f 'd x '\u017f",
]  # fmt: skip
TEXTS = [
    "", " ", "  ", "a", " a", "a ", "a  dog", "dog", "the dogs run", "unknownword", "caf\u00e9",
    "cafe\u0301", "\u65e5\u672c\u8a9e", "\u4e2d\u6587", "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2581", "a\u2581b", "\x1a", "\x1a0", "\x1a1",
    "\u2581\x1a1", "\ufeffa", "a\u0000b", "tab\there", "\ufffd", "<unk>", "<s> </s>", "<0x41>",
    "ABC", "1234567890", "\u00df\u1e9e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "isn't it",
]  # fmt: skip


def random_bytes(count: int, seed: int) -> np.ndarray:
    """Return the upper bytes of a linear congruential generator (Numerical Recipes)."""
    values = np.empty(count, dtype=np.uint8)
    state = seed
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = state >> 24
    return values


def make_image(kind: str, width: int, height: int) -> Image.Image:
    """Return an RGB image: random bytes, one color, two colors, or a gradient."""
    x = np.mgrid[:height, :width][1]
    if kind == "noise":
        data = random_bytes(width * height * 3, width * 1000 + height).reshape(height, width, 3)
        return Image.fromarray(data)
    values = {"flat": x * 0 + 200, "steps": x * 2 // width, "gradient": (x * 255) // width}[kind]
    return Image.fromarray(np.stack([values, values, values], -1).astype(np.uint8))


def digest(data: bytes) -> str:
    """Return the start of a SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def make_images() -> dict[str, Any]:
    """Return the results of resizing, of the whole transform, and of `is_blank`."""
    resizes, pixels, blanks = [], [], []
    for width, height, to_width, to_height, box in RESIZES:
        image = make_image("noise", width, height)
        resized = image.resize((to_width, to_height), Image.Resampling.BICUBIC, box=box)
        size = {"width": width, "height": height, "toWidth": to_width, "toHeight": to_height}
        resizes.append(size | {"box": box, "digest": digest(resized.tobytes())})
    for width, height, spec in PIXELS:
        array = to_pixels(make_image("noise", width, height), spec)
        rows, columns = spec.size
        fields = {"height": rows, "width": columns, "mean": spec.mean, "std": spec.std}
        box = visible_box((width, height), spec)
        pixels.append(
            {"width": width, "height": height, "spec": fields | {"resize": spec.resize}}
            | {"box": box, "digest": digest(array.astype("<f4").tobytes())}
        )
    for kind, width, height in BLANKS:
        image = make_image(kind, width, height)
        blank = is_blank(image, fit(image, BLANK_SIZE, crop=False))
        blanks.append({"kind": kind, "width": width, "height": height, "blank": blank})
    return {"resizes": resizes, "pixels": pixels, "blankSize": BLANK_SIZE, "blanks": blanks}


def make_tokenizer_cases(kind: str) -> dict[str, Any]:
    """Return the pieces of a stored tokenizer, texts with their ids, and ids with their texts."""
    tokenizer, rng = Tokenizer.load(FOLDER / f"{kind}.model"), random.Random(kind)
    alphabet = "".join(SENTENCES) + "".join(TEXTS)
    texts = TEXTS + SENTENCES
    texts += ["".join(rng.choices(alphabet, k=rng.randint(1, 30))) for _ in range(150)]
    ids = [[rng.randrange(len(tokenizer)) for _ in range(rng.randint(0, 12))] for _ in range(150)]
    return {
        "file": {"kind": kind} | tokenizer.export_pieces(),
        "encoded": [[text, tokenizer.encode(text)] for text in texts],
        "decoded": [[row, tokenizer.decode(row)] for row in ids],
    }


def make_questions() -> list[list[str]]:
    """Return questions with their normalized forms, in lower case and as they are."""
    rng = random.Random(0)
    alphabet = "ab's\"'().,?! %\u2019\u201c\u201d\u00ab\u00bb\u00a0n't"
    texts = QUESTIONS + ["".join(rng.choices(alphabet, k=rng.randint(1, 14))) for _ in range(300)]
    return [
        [text, *(normalize_question(text, lowercase=x) for x in (True, False))] for text in texts
    ]


def make_confidences() -> dict[str, Any]:
    """Return logistic models with the confidences of captions and of answers to questions."""
    captions = CaptionConfidence(intercept=1.5, score=2.25)
    answers = AnswerConfidence(intercept=-0.5, log_odds=0.75, words={"how": -1.0, "is": 0.5})
    scores = [0.0, -0.25, -0.9, -30.0]
    asked = []
    for question in ("How many are there?", "is is", "constructor", ""):
        for shares in ([0.6, 0.3, 0.05], [0.2], [1.0, 0.0], [1e-9, 1e-10]):
            found = Answers(tuple(Answer(str(p), p) for p in shares))
            result = calibrate_answers(answers, found, question).answers
            asked.append([question, shares, [answer.confidence for answer in result]])
    return {
        "captions": {
            "model": to_dict(captions),
            "plain": [[x, caption_confidence(None, x)] for x in scores],
            "calibrated": [[x, caption_confidence(captions, x)] for x in scores],
        },
        "answers": {"model": to_dict(answers), "calibrated": asked},
    }


def make_fixtures() -> dict[str, str]:
    """Return the content of each file."""
    values: dict[str, Any] = {"images": make_images(), "questions": make_questions()}
    values["confidences"] = make_confidences()
    values |= {kind: make_tokenizer_cases(kind) for kind in KINDS}
    return {f"{name}.json": json.dumps(value) + "\n" for name, value in values.items()}


def main() -> None:
    """Train the tokenizers if they are missing, and write all files."""
    for kind in KINDS:
        path = FOLDER / f"{kind}.model"
        if not path.exists():
            Tokenizer.train(SENTENCES * 3, vocab_size=420, kind=kind).save(path)
    for name, content in make_fixtures().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
