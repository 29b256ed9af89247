"""The package without the libraries for training: imports, scores, and messages."""

from __future__ import annotations

import json
import re

import pytest
from blocked import HEAVY, run_without
from conftest import ROOT
from tiny import picture

NEED_TORCH = (
    *(
        "build",
        "checkpoint.weights",
        "data.collate",
        "data.dataset",
        "data.sample_texts",
        "data.sampler",
    ),
    *("backends.public", "export", "model", "training"),
    *("backends.precision", "backends.torch_backend", "backends.torch_members"),
    "decoding.torch_arrays",
)
"""Modules and packages of captioner that import torch."""
NEED_OTHERS = (
    "metrics._evaluate_module",
    "checkpoint.hub_download",
    *("pretrained", "serve"),
)
"""Modules and packages that import other libraries of the extras."""
MAIN = "from captioner.cli.main import main; sys.exit(main(sys.argv[1:]))"

WALK = f"""
import importlib, pkgutil, captioner
skipped = tuple("captioner." + name for name in {NEED_TORCH + NEED_OTHERS})
failed, count = [], 0
for found in pkgutil.walk_packages(captioner.__path__, "captioner.", onerror=lambda name: None):
    if any((found.name + ".").startswith(name + ".") for name in skipped):
        continue
    count += 1
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        failed.append((found.name, error.name))
print(count, failed)
"""


def test_modules_that_need_no_torch_can_be_imported():
    done = run_without(WALK)
    assert done.returncode == 0, done.stderr
    count, failed = done.stdout.split(maxsplit=1)
    assert (int(count) > 80, failed.strip()) == (True, "[]")


def test_each_module_that_is_exempt_needs_torch():
    names = [f"captioner.{name}" for name in NEED_TORCH]
    code = "import importlib\nfor name in sys.argv[1:]:\n    try: importlib.import_module(name)\n"
    code += "    except ModuleNotFoundError as error: print(name, error.name)\n"
    done = run_without(code, *names)
    needed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" torch")}
    # The `__init__` of these packages imports nothing.
    empty = ("backends.public", "export", "model", "training")
    assert set(names) - needed <= {f"captioner.{name}" for name in empty}


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_candidates_are_scored(format, tmp_path):
    texts = ["a red circle on the left", "a blue square", "two dogs in the snow"]
    rows = [{"image": f"{i}.png", "caption": text} for i, text in enumerate(texts)]
    references = tmp_path / "data.jsonl"
    references.write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidates = tmp_path / f"captions.{format}"
    if format == "csv":
        candidates.write_text(
            "image,caption\n" + "".join(f"{i}.png,{t}\n" for i, t in enumerate(texts))
        )
    else:
        candidates.write_text(references.read_text())
    words = ["score", candidates, "--references", references, "--json"]
    done = run_without(MAIN, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["BLEU-1"] == pytest.approx(1)


def test_answers_are_scored(tmp_path):
    rows = [
        {"image": f"{i}.png", "question": "What color is it?", "answer": answer}
        for i, answer in enumerate(("red", "green", "blue"))
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = tmp_path / "data.jsonl"
    done = run_without(MAIN, "score", data, "--references", data, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["answers"]["exact match"] == 1


@pytest.mark.parametrize("command", ["train", "caption", "serve", "score", "export"])
def test_a_command_names_the_missing_library_on_one_line(command, tmp_path):
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "data.jsonl").write_text('{"image": "0.png", "caption": "a circle"}\n')
    words = {
        "train": ("--config", "smoke", f"data.root={tmp_path}"),
        "caption": (tmp_path / "0.png", "--backend", "torch"),
        "score": (
            "--checkpoint",
            "bundled",
            "--references",
            tmp_path / "data.jsonl",
            "--backend",
            "torch",
        ),
        "export": ("bundled",),
        "serve": ("--port", "0"),
    }[command]
    blocked = (*HEAVY, "gradio", "fastapi", "fastapi_offline", "prometheus_client", "httpcore")
    done = run_without(MAIN, command, *words, blocked=blocked)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    extra = "serve" if command == "serve" else "train"
    pattern = rf"captioner {command}: .* needs \w+, which is not installed; run: pip install"
    assert re.fullmatch(rf'{pattern} "captioner\[{extra}\]"', last), done.stderr


def test_load_raises_dependency_error():
    code = (
        "import captioner\n"
        "try: captioner.load(backend='torch', device='cpu')\n"
        "except captioner.DependencyError as error: print(error)"
    )
    done = run_without(code)
    expected = 'the torch backend needs torch, which is not installed; run: pip install "captioner['
    assert done.stdout.startswith(expected), done.stderr


def test_the_error_states_why_torch_is_needed():
    code = (
        "import captioner\n"
        "try: captioner.load(dtype='bfloat16')\n"
        "except captioner.DependencyError as error: print(error)"
    )
    done = run_without(code)
    assert done.stdout.startswith("dtype bfloat16 needs torch; the torch backend needs torch")


def test_images_are_captioned_without_torch():
    done = run_without(MAIN, "caption", ROOT / "examples/beach.jpg", "-v")
    assert (done.returncode, done.stdout) == (0, "a group of people are walking on the beach\n")
    assert "ONNX Runtime on cpu" in done.stderr


def test_questions_are_answered_without_torch():
    question = ["--question", "what color is the dog?", "--answers", "brown,purple"]
    done = run_without(MAIN, "caption", ROOT / "examples/dog.jpg", *question)
    assert (done.returncode, done.stdout) == (0, "brown\n"), done.stderr


@pytest.mark.slow
def test_onnx_runtime_writes_nothing_to_the_home_folder(tmp_path, monkeypatch):
    """Its telemetry would store the identifier of the device there."""
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    done = run_without(MAIN, "caption", ROOT / "examples/beach.jpg")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
