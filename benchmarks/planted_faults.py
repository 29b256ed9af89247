"""Plant faults of known kinds in copies of Flickr8k and COCO-QA, for `data_quality.py`."""

from __future__ import annotations

import io
import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from planted_texts import (
    BOILERPLATE,
    FOREIGN,
    MARKUP,
    OPEN_WORDS,
    SHORT_FOREIGN,
    damage_encoding,
)

Planted = dict[str, dict[tuple[str, str], str]]
"""For each kind, the image name and the text of each fault ("" for an image), and its variant."""


class World:
    """Flickr8k's annotations with planted faults, in a temporary folder."""

    def __init__(self, source: Path, folder: Path, seed: int, count: int, hard: bool) -> None:
        self.rng, self.count, self.hard = random.Random(seed), count, hard
        self.images = folder / "Flicker8k_Dataset"
        self.held_out = folder / "held_out"
        self.text = folder / "Flickr8k_text"
        for path in (self.images, self.held_out, self.text):
            path.mkdir(parents=True)
        self.photos = source / "Flicker8k_Dataset"
        self.captions: dict[str, list[str]] = {}
        for line in (source / "Flickr8k_text/Flickr8k.token.txt").read_text("utf-8").splitlines():
            name, _, caption = line.partition("\t")
            self.captions.setdefault(name.partition("#")[0], []).append(caption)
        self.splits = {
            split: (source / f"Flickr8k_text/Flickr_8k.{split}Images.txt").read_text().split()
            for split in ("train", "dev")
        }
        self.planted: Planted = defaultdict(dict)
        self.free = {split: list(names) for split, names in self.splits.items()}
        for names in self.free.values():
            self.rng.shuffle(names)
        self.files: dict[str, bytes] = {}
        self.removed: set[str] = set()

    def take(self, split: str = "train") -> str:
        """Return an image that no fault was planted in."""
        return self.free[split].pop()

    def photo(self, name: str) -> Image.Image:
        """Return an original image."""
        return Image.open(self.photos / name).convert("RGB")

    def write(self) -> None:
        """Write the annotations and the images."""
        lines = [
            f"{name}#{k}\t{text}\n"
            for name, texts in self.captions.items()
            for k, text in enumerate(texts)
            if name not in self.removed
        ]
        (self.text / "Flickr8k.token.txt").write_text("".join(lines), "utf-8")
        for split, names in self.splits.items():
            kept = [name for name in names if name not in self.removed]
            (self.text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(kept) + "\n")
            for name in kept:
                if name in self.files:
                    (self.images / name).write_bytes(self.files[name])
                elif (name, "") not in self.planted["missing-image"]:
                    (self.images / name).symlink_to(self.photos / name)


def encode(image: Image.Image, rng: random.Random, *, low: int = 30, high: int = 90) -> bytes:
    """Return an image as JPEG of a random quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(low, high))
    return file.getvalue()


def edit(image: Image.Image, rng: random.Random, *, hard: bool) -> tuple[bytes, str]:
    """Return an edited copy as JPEG, and the names of the edits."""
    edits = ["resize", "crop", "brightness", "mirror", "quality"]
    chosen = sorted(rng.sample(edits, rng.choice([2, 3, 4] if hard else [1, 1, 2])))
    for name in chosen:
        if name == "resize":
            scale = rng.uniform(0.3, 1.6) if hard else rng.uniform(0.3, 0.9)
            image = image.resize([round(side * scale) for side in image.size])
        elif name == "crop":
            image = crop(image, rng, hard=hard)
        elif name == "brightness":
            image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.65, 1.45))
            if hard:
                image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.3))
        elif name == "mirror":
            image = ImageOps.mirror(image)
    return encode(image, rng, low=20 if hard else 30), "+".join(chosen)


def crop(image: Image.Image, rng: random.Random, *, hard: bool) -> Image.Image:
    """Cut 2 to 8 % (hard: 1 to 10 %) of the width and of the height, at random sides."""
    low, high = (0.01, 0.10) if hard else (0.02, 0.08)
    cuts = []
    for side in image.size:
        total = rng.uniform(low, high) * side
        first = rng.uniform(0, total)
        cuts.append((round(first), round(side - total + first)))
    (left, right), (top, bottom) = cuts
    return image.crop((left, top, right, bottom))


def plant_image_faults(world: World) -> None:
    """Damage, shrink, blank or remove images."""
    rng, planted = world.rng, world.planted
    for _ in range(world.count):
        name = world.take()
        data = (world.photos / name).read_bytes()
        variant = rng.choice(["cut", "cut", "cut", "empty", "text", "head"])
        keep = rng.uniform(0.02, 0.97)
        world.files[name] = {
            "cut": data[: int(len(data) * keep)],
            "empty": b"",
            "text": b"<html><body>404 Not Found</body></html>\n",
            "head": b"\0" * 64 + data[64:],
        }[variant]
        planted["unreadable-image"][name, ""] = variant
    for _ in range(world.count):
        name = world.take()
        side = rng.randint(6, 60)
        other = rng.randint(side, 300) if world.hard else side
        world.files[name] = encode(world.photo(name).resize((side, other)), rng)
        planted["tiny-image"][name, ""] = f"{side} px"
    for _ in range(world.count):
        name = world.take()
        size = rng.choice([(224, 224), (320, 240), (640, 480)])
        if rng.random() < 0.7:
            image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
        else:
            noise = np.random.default_rng(rng.randrange(2**31)).integers(0, 256, (*size[::-1], 3))
            image = Image.fromarray(noise.astype(np.uint8))
        world.files[name] = encode(image, rng, low=75, high=95)
        planted["blank-image"][name, ""] = str(size)
    for _ in range(world.count):
        name = world.take()
        planted["missing-image"][name, ""] = ""


def add_copy(world: World, source: str, number: int, data: bytes) -> str:
    """Add an image with the captions of another one to the training split; return its name."""
    name = f"{10**9 + number}_{world.rng.randrange(16**10):010x}.jpg"
    world.files[name] = data
    world.captions[name] = list(world.captions[source])
    world.splits["train"].insert(world.rng.randrange(len(world.splits["train"])), name)
    return name


def plant_copies(world: World) -> None:
    """Add copies of images to the training split."""
    rng, planted = world.rng, world.planted
    for kind, split in (
        ("duplicate-image", "train"),
        ("near-duplicate-image", "train"),
        ("split-leak", "dev"),
        ("held-out-leak", "dev"),
    ):
        for number in range(world.count):
            source = world.take(split)
            data, variant = (world.photos / source).read_bytes(), "equal"
            if kind != "duplicate-image" and (kind[0] == "n" or rng.random() < 0.8):
                data, variant = edit(world.photo(source), rng, hard=world.hard)
            copy = add_copy(world, source, len(planted) * world.count + number, data)
            planted[kind][copy, ""] = variant
            planted["source"][copy, source] = kind
            if kind == "held-out-leak":
                (world.held_out / source).symlink_to(world.photos / source)
                world.removed.add(source)


def plant_caption(world: World, kind: str, make: Callable[[str, list[str]], str | None]) -> None:
    """Change one caption of each of `count` images; `make` may reject a caption with None."""
    done = 0
    while done < world.count:
        name = world.take()
        texts = world.captions[name]
        number = world.rng.randrange(len(texts))
        text = make(texts[number], texts[:number] + texts[number + 1 :])
        if text is None:
            world.free["train"].insert(0, name)
            continue
        texts[number] = text
        world.planted[kind][name, text.strip()] = ""
        done += 1


def cut_at_word(caption: str, rng: random.Random) -> str | None:
    """Return a caption that ends after an open word, or None."""
    words = caption.rstrip(" .").split()
    places = [i for i, word in enumerate(words) if word.lower() in OPEN_WORDS and i >= 2]
    return " ".join(words[: rng.choice(places) + 1]) if places else None


def cut_in_word(caption: str, others: list[str], known: set[str], rng: random.Random) -> str | None:
    """Return a caption that ends in the middle of a known word, or None."""
    words = caption.rstrip(" .").split()
    near = {word.lower() for other in others for word in other.split()}
    places = [
        i
        for i, word in enumerate(words)
        if i >= 2 and len(word) >= 4 and word.isalpha() and word.lower() in known
    ]
    # Half of the words occur in another caption of the image.
    shared = [i for i in places if words[i].lower() in near]
    places = shared if shared and rng.random() < 0.5 else places
    if not places:
        return None
    i = rng.choice(places)
    return " ".join([*words[:i], words[i][: rng.randint(2, len(words[i]) - 2)]])


def plant_captions(world: World) -> None:
    """Plant all faults of captions."""
    rng = world.rng
    counts: dict[str, int] = defaultdict(int)
    for texts in world.captions.values():
        for text in texts:
            for word in text.lower().split():
                counts[word] += 1
    known = {word for word, count in counts.items() if count >= 20}
    pool = [text for name in world.free["train"][:2000] for text in world.captions[name]]
    foreign = SHORT_FOREIGN if world.hard else FOREIGN
    plant_caption(world, "empty-caption", lambda c, o: rng.choice(["", " ", ".", " . ", '""']))
    plant_caption(
        world,
        "truncated-caption",
        lambda c, o: cut_at_word(c, rng) if rng.random() < 0.5 else cut_in_word(c, o, known, rng),
    )
    plant_caption(
        world,
        "repeated-caption",
        lambda c, o: rng.choice([o[0], o[0].upper(), o[0].rstrip(" ."), o[0].replace(" ", "  ")]),
    )
    used = iter([text for text in BOILERPLATE for _ in range(-(-world.count // len(BOILERPLATE)))])
    plant_caption(world, "boilerplate-caption", lambda c, o: next(used))
    plant_caption(world, "mojibake", lambda c, o: damage_encoding(c, rng))
    plant_caption(world, "markup", lambda c, o: rng.choice(MARKUP).replace("TEXT", c.rstrip(" .")))
    sentences = iter(rng.sample(foreign * 3, min(len(foreign) * 3, world.count)))
    plant_caption(world, "other-language", lambda c, o: next(sentences, rng.choice(foreign)))
    plant_caption(
        world,
        "unusual-length",
        lambda c, o: (
            max(c.split(), key=len)
            if rng.random() < 0.5
            else " ".join(rng.sample(pool, rng.randint(5, 8)))
        ),
    )


def plant_questions(source: Path, folder: Path, seed: int, count: int) -> Planted:
    """Write COCO-QA with planted faults of questions."""
    rng = random.Random(seed)
    rows = [json.loads(line) for line in (source / "questions.jsonl").read_text().splitlines()]
    planted: Planted = defaultdict(dict)
    places = rng.sample(range(len(rows)), 3 * count)
    answers = sorted({row["answer"] for row in rows})
    extra = []
    for i in places[:count]:
        other = rng.choice([answer for answer in answers if answer != rows[i]["answer"]])
        question = rng.choice([rows[i]["question"], rows[i]["question"].capitalize()])
        extra.append(rows[i] | {"answer": other, "question": question})
        planted["contradictory-answers"][Path(rows[i]["image"]).name, ""] = f"{other}"
    for i in places[count : 2 * count]:
        rows[i]["answer"] = rng.choice(["", " ", "."])
        planted["empty-answer"][Path(rows[i]["image"]).name, ""] = ""
    for i in places[2 * count :]:
        rows[i]["question"] = rng.choice(["", " ", "?"])
        planted["empty-question"][Path(rows[i]["image"]).name, ""] = ""
    text = "".join(json.dumps(row) + "\n" for row in rows + extra)
    (folder / "questions.jsonl").write_text(text)
    (folder / "images").symlink_to((source / "images").resolve())
    return planted
