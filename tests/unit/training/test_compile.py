"""`train.compile`: the same losses and checkpoints, and no recompilation for new lengths."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from drawn_images import make_flickr
from runs import best_of, run
from tiny import make_checkpoint
from torch import Tensor, nn

from captioner.backends.torch_backend import TorchBackend
from captioner.build import load_checkpoint
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, PAD
from captioner.training import compile
from captioner.training.samples import sample_captions

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")


@pytest.fixture
def model(tmp_path) -> Seq2Seq:
    return load_checkpoint(make_checkpoint(tmp_path / "best"), for_training=True)[0]


def inputs(images: int, longest: int) -> tuple[Tensor, Tensor]:
    """Return images with three captions each, of one token up to the maximum length."""
    generator = torch.Generator().manual_seed(longest)
    tokens = torch.randint(4, 200, (images, 3, longest), generator=generator)
    lengths = torch.arange(images * 3).view(images, 3, 1) % longest + 1
    tokens[torch.arange(longest).expand_as(tokens) >= lengths] = PAD
    tokens[..., 0] = BOS
    return torch.randn(images, 3, 64, 64, generator=generator), tokens


def losses(model: Seq2Seq, sizes: list[tuple[int, int]]) -> list[float]:
    """Return the gradients of steps on batches of these sizes and lengths."""
    optimizer, result = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    dtype = next(model.parameters()).dtype
    for count, longest in sizes:
        images, tokens = inputs(count, longest)
        loss = F.cross_entropy(model(images.to(dtype), tokens), tokens[tokens != PAD])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.append(loss.item())
    return result


class Patches(nn.Module):
    """A backbone of one convolution, which compiles much faster than a MobileNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 32, stride=32)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).flatten(2).transpose(1, 2)


def use_backend(name: str, monkeypatch) -> None:
    """Select the backend of torch.compile.

    "eager" and "aot_eager" trace and guard like "inductor", the latter also differentiates like it;
    both run the graphs without generating C++.
    """
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=name))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_compiler)])
def test_compiled_model_has_equal_gradients_and_compiles_once(model, monkeypatch, backend):
    if backend == "inductor":  # the only test of generated code; the other one uses the whole model
        torch.manual_seed(0)
        model.backbone = Patches(model.backbone(torch.zeros(1, 3, 64, 64)).shape[-1])
        model.double()  # generated code adds in another order, which would be visible in float32
    use_backend(backend, monkeypatch)
    plain, first = copy.deepcopy(model), [(2, 5), (2, 7)]
    lengths = [(2, longest) for longest in (3, 11, 4, 12, 6)]
    compile.compile_parts(model)
    result = losses(model, first)
    with torch.compiler.set_stance("fail_on_recompile"):
        result += losses(model, lengths)
    assert result == pytest.approx(losses(plain, first) + losses(plain, lengths), abs=1e-4)
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_compiled_run_equals_the_plain_run(tmp_path, monkeypatch):
    use_backend("eager", monkeypatch)
    data = make_flickr(tmp_path / "data")
    words = ["train.stages=[{epochs: 2, lr: 1e-3, encoder_lr: 1e-3}]", "train.threads=1"]
    logs = []
    for name in ("false", "true"):
        assert run(data, tmp_path / name, f"train.compile={name}", *words) == 0
        lines = (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append([json.loads(line)["loss"] for line in lines])
    assert logs[1] == pytest.approx(logs[0], abs=1e-4)
    assert best_of(tmp_path / "true").keys() == best_of(tmp_path / "false").keys()
    load_checkpoint(tmp_path / "true" / "best")


def test_no_compiled_code_runs_without_gradients(model, monkeypatch):
    plain, called = copy.deepcopy(model), []

    def fake(function, **options):
        return lambda *args: called.append(function) or function(*args)

    monkeypatch.setattr(torch, "compile", fake)
    compile.compile_parts(model)
    called.clear()
    images, tokens = inputs(2, 6)
    with torch.no_grad():
        assert torch.equal(model(images, tokens), plain(images, tokens))
    drawn = []
    for other in (model, plain):
        backend = TorchBackend.of_model(other, device=torch.device("cpu"))
        torch.manual_seed(0)
        with torch.no_grad():
            memories = backend.encode_tensors([images])
        drawn.append(sample_captions(backend, memories, rows=2, max_length=4, greedy=False))
    assert torch.equal(*drawn)
    assert called == []
    model(images, tokens)
    assert len(called) == 1 + 2 + 3  # backbone, layer of the memory encoder, layer of the decoder


def test_missing_compiler_is_a_one_line_error(tmp_path: Path, monkeypatch, capsys):
    def broken(function, **options):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nin a list of many")

    monkeypatch.setattr(torch, "compile", broken)
    data = make_flickr(tmp_path / "data")
    assert run(data, tmp_path / "run", "train.compile=true") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: train.compile=true:")
    assert "C++ compiler" in last
