"""A data set whose texts need an image and a recording.

The image shows where something is: the color of the ground. The recording says what it is: one of
four pitches. One input alone leaves four texts equally likely.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw
from tiny_audio import tone, write_wave

SIDE = 64
QUESTION = "what is where?"
PLACES = {"snow": (225, 230, 235), "grass": (60, 150, 60), "water": (50, 90, 190),
          "sand": (210, 180, 90)}  # fmt: skip
PITCHES = {"dog": 200, "frog": 420, "bird": 880, "cricket": 1850}


class Scene(NamedTuple):
    """An image, a recording and the text about both."""

    image: str
    audio: str
    caption: str
    answer: str


def make_scenes(folder: Path, count: int, *, seed: int) -> list[Scene]:
    """Write the files of scenes; each combination is equally frequent."""
    folder.mkdir(parents=True)
    scenes = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        place, thing = list(PLACES)[number % 4], list(PITCHES)[number // 4 % 4]
        image, audio = folder / f"{number}.png", folder / f"{number}.wav"
        _draw(place, rng).save(image)
        pitch = PITCHES[thing] * rng.uniform(0.95, 1.05)
        write_wave(audio, tone(pitch, seed=rng.randrange(2**31)))
        texts = f"a {thing} on the {place}", f"{thing} {place}"
        scenes.append(Scene(str(image), str(audio), *texts))
    return scenes


def _draw(place: str, rng: random.Random) -> Image.Image:
    ground = tuple(value + rng.randrange(-20, 20) for value in PLACES[place])
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    x, y = rng.randrange(SIDE - 20), rng.randrange(SIDE - 20)
    shade = (rng.randrange(256),) * 3
    ImageDraw.Draw(picture).rectangle((x, y, x + 16, y + 16), fill=shade)
    return picture


def write_rows(path: Path, scenes: list[Scene], *, split: str) -> None:
    """Append a caption, and a question with its answer, for each scene to a JSONL file."""
    with path.open("a") as file:
        for scene in scenes:
            row = {"image": scene.image, "audio": scene.audio, "split": split}
            file.write(json.dumps(row | {"caption": scene.caption}) + "\n")
            answer = {"question": QUESTION, "answer": scene.answer}
            file.write(json.dumps(row | answer) + "\n")
