"""Copies and pickles of a captioner, which load its checkpoint again."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import make_checkpoint, picture

import captioner
from captioner.backends.onnx_backend import OnnxBackend
from captioner.build import load_checkpoint
from captioner.errors import CaptionerError, CheckpointError
from captioner.predict import Captioner

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("copies") / "best")


def text(model: Captioner) -> str:
    return model.caption(picture(1))[0].text


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize(
    "options",
    [{}, {"dtype": "bfloat16", "tta": 2}, {"dtype": "int8"}, {"compile": True}],
    ids=str,
)
def test_a_copy_has_the_same_options(folder, again, options):
    model = captioner.load(folder, **options)
    copied = again(model)
    assert copied is not model
    assert copied.model is not model.model
    assert copied.dtype == model.dtype
    assert copied.config == model.config
    assert type(copied.model.backbone) is type(model.model.backbone)
    if "compile" not in options:  # it would call a C++ compiler
        assert text(copied) == text(model)
    assert copied._origin == model._origin


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_runs_on_onnx_runtime_again(again):
    model = captioner.load(backend="onnx", dtype="int8")
    encoded = model.encode(picture(1))
    copied = again(model)
    assert type(copied.backend) is OnnxBackend
    assert copied.model is not model.model
    assert (copied.dtype, model.dtype) == ("int8", "int8")
    assert text(copied) == text(model)
    expected = model.score(encoded, ["a red dog"])
    assert copied.score(picture(1), ["a red dog"]) == expected
    assert model.score(copy.deepcopy(encoded), ["a red dog"]) == expected
    with pytest.raises(CaptionerError, match="another model has encoded"):
        copied.score(encoded, ["a red dog"])


def test_an_ensemble_can_be_copied(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    model = captioner.load([folder, other])
    copied = copy.deepcopy(model)
    assert len(copied.backend.models) == 2
    assert text(copied) == text(model)


@pytest.mark.slow
def test_a_pickle_is_small_and_independent_of_the_working_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = pickle.dumps(captioner.load(folder.name))
    expected = text(captioner.load(folder.name))
    assert len(data) < 1000
    (tmp_path / "model").write_bytes(data)
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import pickle, tiny\n"
        "model = pickle.load(open('model', 'rb'))\n"
        "print(model.caption(tiny.picture(1))[0].text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == expected, done.stderr


def test_a_shallow_copy_shares_the_models(folder):
    model = captioner.load(folder)
    assert copy.copy(model).model is model.model
    assert text(copy.copy(model)) == text(model)


def test_a_changed_checkpoint_cannot_be_copied(folder, tmp_path):
    checkpoint = shutil.copytree(folder, tmp_path / "best")
    model = captioner.load(checkpoint)
    data = pickle.dumps(model)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CaptionerError, match="has changed since it was loaded"):
        copy.deepcopy(model)
    with pytest.raises(CheckpointError, match="not the checkpoint of the captioner"):
        pickle.loads(data)
    shutil.rmtree(checkpoint)
    with pytest.raises(CaptionerError):
        pickle.dumps(model)
    with pytest.raises(CheckpointError):
        pickle.loads(data)


def test_a_captioner_of_a_model_in_memory_cannot_be_copied(folder):
    model, tokenizer, config = load_checkpoint(folder)
    made = Captioner.of_model(model, tokenizer, config)
    for again in (copy.deepcopy, pickle.dumps):
        with pytest.raises(CaptionerError, match="made of a model in memory"):
            again(made)
    assert text(copy.copy(made)) == text(made)


def test_an_encoded_image_can_be_copied_but_not_pickled(folder):
    model = captioner.load(folder)
    encoded = model.encode(picture(1))
    expected = model.score(encoded, ["a red dog"])
    for copied in (copy.copy(encoded), copy.deepcopy(encoded)):
        assert model.score(copied, ["a red dog"]) == expected
    assert copy.deepcopy(encoded).memory.states[0] is not encoded.memory.states[0]
    with pytest.raises(CaptionerError, match="cannot be pickled"):
        pickle.dumps(encoded)
    with pytest.raises(CaptionerError, match="another model has encoded"):
        copy.deepcopy(model).score(encoded, ["a red dog"])
    torch.testing.assert_close(copy.deepcopy(encoded).memory.states[0], encoded.memory.states[0])


def test_a_copy_keeps_the_device(folder):
    model = captioner.load(folder, device=torch.device("cpu"))
    assert copy.deepcopy(model).backend.device == model.backend.device
    assert os.path.isabs(model._origin.names[0])
