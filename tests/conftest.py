"""Set up an offline process with few threads, and fixtures with data sets of drawn images."""

from __future__ import annotations

import gc
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# Set before `datasets`, `timm` or torch is imported: they read the environment only once.
_HOME = tempfile.TemporaryDirectory(prefix="captioner-tests-")
# One torch thread per process: the tensors are small, so that more threads would be slower.
THREADS = int(os.environ.get("CAPTIONER_TEST_THREADS") or os.environ.get("OMP_NUM_THREADS") or "1")
os.environ.update(
    OMP_NUM_THREADS=str(THREADS),
    HF_HOME=_HOME.name,
    HF_DATASETS_CACHE=str(Path(_HOME.name) / "datasets"),
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    ORT_DISABLE_TELEMETRY="1",  # for tests that import onnxruntime themselves
    # Keep code for other instruction sets (ATEN_CPU_CAPABILITY) apart.
    TORCHINDUCTOR_CACHE_DIR=str(Path(_HOME.name) / "inductor"),
    TORCHINDUCTOR_COMPILE_THREADS="1",  # Each further thread is a process that imports torch.
)

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

if TYPE_CHECKING:
    from forks import ForkServer

    from captioner.decoding.arrays import Arrays

# A shell makes background jobs ignore SIGINT, which processes of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the machine may be busy. No database: tests do not write to the source tree.
hypothesis.settings.register_profile("project", deadline=None, database=None)
hypothesis.settings.load_profile("project")

pytest_plugins = ("score_fixtures",)

SHAPES = (
    ("red", "circle", "left"),
    ("green", "square", "right"),
    ("blue", "triangle", "left"),
    ("yellow", "circle", "right"),
    ("white", "square", "left"),
    ("purple", "triangle", "right"),
)
"""Color, shape and side of each drawn image."""


def draw(color: str, shape: str, side: str, *, size: int = 64) -> Image.Image:
    """Return an image of a colored shape on the left or right half of a gray square."""
    image = Image.new("RGB", (size, size), (90, 90, 90))
    pen = ImageDraw.Draw(image)
    left = size // 16 if side == "left" else size // 2
    box = (left, size // 4, left + size * 7 // 16, size * 11 // 16)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])], color)
    return image


def captions_of(color: str, shape: str, side: str) -> tuple[str, ...]:
    """Return two captions of a drawn image."""
    return (f"a {color} {shape} on the {side}", f"the {shape} is {color}")


def questions_of(color: str, shape: str, side: str) -> tuple[tuple[str, str], ...]:
    """Return questions about a drawn image, each with its answer."""
    return (
        ("What colour is it?", color),
        ("What shape is it?", shape),
        ("On which side is it?", f"on the {side}"),
    )


def make_questions(
    root: Path,
    *,
    train: Sequence[int] = (0, 1, 2, 3),
    val: Sequence[int] = (),
    pictures: Path | None = None,
) -> Path:
    """Write questions about drawn images as JSONL; the numbers are indices of SHAPES.

    `pictures` is the image folder of another data set, which is used instead of new images.
    """
    folder = pictures or root / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    for name, numbers in (("train", train), ("val", val)):
        rows = []
        for i in numbers:
            path = folder / f"{i}.png"
            if pictures is None:
                draw(*SHAPES[i]).save(path)
            image = os.path.relpath(path, root)
            rows += [
                {"image": image, "question": question, "answer": answer}
                for question, answer in questions_of(*SHAPES[i])
            ]
        if rows:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return root


class Table(list):
    """Rows that also return a column by name, as a `datasets` table does."""

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def make_flickr(
    root: Path,
    *,
    train: Sequence[int] = (0, 1, 2, 3),
    val: Sequence[int] = (),
    captions: int = 2,
    bad: Sequence[int] = (),
) -> Path:
    """Write a data set in Flickr8k's layout; the numbers are indices of SHAPES.

    `bad` images are files that cannot be decoded. With `captions=1`, each image has only its first
    caption.
    """
    images, text = root / "Flicker8k_Dataset", root / "Flickr8k_text"
    images.mkdir(parents=True)
    text.mkdir()
    lines = []
    for i in sorted({*train, *val}):
        path = images / f"{i}.png"
        if i in bad:
            path.write_bytes(b"this is no picture")
        else:
            draw(*SHAPES[i]).save(path)
        texts = captions_of(*SHAPES[i])[:captions]
        lines += [f"{path.name}#{j}\t{caption} ." for j, caption in enumerate(texts)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, numbers in (("train", train), ("dev", val)):
        names = "".join(f"{i}.png\n" for i in numbers)
        (text / f"Flickr_8k.{name}Images.txt").write_text(names, encoding="utf-8")
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, so that several test processes end at the same time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        names = ("slow", "browser")
        long = {i.path for i in items if any(i.get_closest_marker(name) for name in names)}
        items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Exempt the imported libraries and collected tests from garbage collection.

    Accelerate calls `gc.collect` at the end of each run, which would traverse them every time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _threads() -> None:
    """Reset the number of threads, which a test may have changed (`train.threads`)."""
    import torch

    torch.set_num_threads(THREADS)


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Reset the state of Accelerate, which keeps the first settings of a process."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Run `train.py` in forks of one process, which imports the libraries once."""
    from forks import ForkServer

    with ForkServer(tmp_path_factory.mktemp("forks") / "errors.txt") as server:
        yield server


@pytest.fixture(scope="session", params=["numpy", "torch"])
def arrays(request: pytest.FixtureRequest) -> Arrays:
    """Return the functions of an array library, so that a test runs with both."""
    from captioner.decoding.numpy_arrays import NUMPY
    from captioner.decoding.torch_arrays import arrays_on

    return NUMPY if request.param == "numpy" else arrays_on("cpu")


@pytest.fixture
def rng() -> random.Random:
    """Return a generator of the same random numbers in every run."""
    return random.Random(0)


@pytest.fixture
def tiny_flickr(tmp_path: Path) -> Path:
    """Return a data set of four drawn training images with two captions each."""
    return make_flickr(tmp_path / "data")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of three images that a tiny checkpoint captions differently."""
    from tiny import picture

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        picture(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def album(photos: Path) -> str:
    """Return a folder of four images, one of them twice, and two invalid files, in two folders."""
    from tiny import picture

    (photos / "sub").mkdir()
    shutil.copy(photos / "1.png", photos / "sub" / "twin.png")
    picture(7).save(photos / "sub" / "x.jpg")
    (photos / "bad.png").write_bytes(b"no picture")
    (photos / "sub" / "z.png").write_bytes(b"no picture")
    return "photos"


@pytest.fixture(scope="session")
def vqa_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny checkpoint that answers questions."""
    from tiny_vqa import make_vqa_checkpoint

    return str(make_vqa_checkpoint(tmp_path_factory.mktemp("vqa") / "best"))


@pytest.fixture(scope="session")
def add_graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Return a function that adds the ONNX graphs of a checkpoint folder to it and returns it.

    Equal checkpoints are exported once for all test processes, because an export takes seconds.
    """
    from filelock import FileLock

    from captioner.checkpoint import fingerprint

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all processes

    def add(folder: Path) -> Path:
        shared = root / "graphs" / fingerprint([folder])
        shared.parent.mkdir(exist_ok=True)
        with FileLock(f"{shared}.lock"):
            if not shared.exists():
                from captioner.export.onnx_graphs import export_graphs

                graphs = export_graphs(folder)
                shared.mkdir()
                for graph in graphs:
                    shutil.copy(graph, shared)
        return Path(shutil.copytree(shared, folder, dirs_exist_ok=True))

    return add


@pytest.fixture(scope="session")
def answer_of(vqa_checkpoint: str):
    """Return a function that answers a question with the Python API."""
    import captioner

    model = captioner.load(vqa_checkpoint)
    return lambda path, question, **options: model.ask(path, question, **options)


@pytest.fixture
def type_in(monkeypatch):
    """Return a function that puts text, or bytes, on stdin."""

    def put(data: str | bytes) -> None:
        data = data.encode() if isinstance(data, str) else data
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return put


@pytest.fixture
def working_folder(tmp_path, monkeypatch) -> Path:
    """The test's own folder, as the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(checkpoint, capsys):
    """Return a function that runs generate.py in this process.

    It returns the exit status, the lines of stdout and the text of stderr.
    """

    def call(*words: object) -> tuple[int, list[str], str]:
        from captioner.cli import generate

        status = generate.main([*map(str, words), "--checkpoint", checkpoint])
        out, err = capsys.readouterr()
        assert out == "" or out.endswith("\n")
        return status, out.split("\n")[:-1], err

    return call


@pytest.fixture
def read(tmp_path_factory):
    """Return `read_dataset` with a separate cache, which returns Examples instead of a table."""
    from dataclasses import fields, replace

    from captioner.data import Example, read_dataset

    cache = tmp_path_factory.mktemp("cache")

    def read_examples(root, **options):
        table, report = read_dataset(root, cache_dir=cache, **options)
        assert table.cache_files, "rows are to be memory-mapped, not held in memory"
        assert table.column_names == [field.name for field in fields(Example)]
        rows = [
            replace(
                row,
                references=tuple(row.references),
                tags=None if row.tags is None else tuple(row.tags),
            )
            for row in (Example(**row) for row in table)
        ]
        assert all(os.path.isabs(row.image) for row in rows)
        return rows, report

    return read_examples


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Return a list that receives the number of images of each call of the encoder."""
    from captioner.model.seq2seq import Seq2Seq

    found, extract = [], Seq2Seq.extract_views

    def counting(self, images):
        found.append(len(images))
        return extract(self, images)

    monkeypatch.setattr(Seq2Seq, "extract_views", counting)
    return found
