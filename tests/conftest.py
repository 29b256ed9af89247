"""Set up an offline process with few threads, and fixtures that many tests share."""

from __future__ import annotations

import gc
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
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

if TYPE_CHECKING:
    from forks import ForkServer
    from hub_server import Hub

    from captioner.decoding.arrays import Arrays

# A shell makes background jobs ignore SIGINT, which processes of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the machine may be busy. No database: tests do not write to the source tree.
hypothesis.settings.register_profile("project", deadline=None, database=None)
hypothesis.settings.load_profile("project")

pytest_plugins = ("score_fixtures",)


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
    from drawn_images import make_flickr

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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a Hugging Face Hub on this machine, with an empty cache and without a token."""
    from hub_server import run_hub
    from huggingface_hub import close_session, constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    with run_hub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "hub_cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        yield server
        close_session()


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
                weights=tuple(row.weights),
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


@pytest.fixture
def set_keywords(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the nouns of all captions; those of tiny models have none."""

    def replace(*words: str) -> None:
        name = "captioner.cli.batch.runner.find_keywords"
        monkeypatch.setattr(name, lambda caption: list(words))

    return replace
