"""Captions by the Python API: inputs, order of results, batches, data types, augmentation."""

from __future__ import annotations

import copy
import functools
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_checkpoint, picture

import captioner
from captioner.build import load_checkpoint
from captioner.errors import CaptionerError, CheckpointError, ImageError
from captioner.generation.captions import search_captions
from captioner.model import tta
from captioner.model.cpu.packed import PackedConv
from captioner.model.cpu.processor import can_pack
from captioner.model.tta import view_sizes
from captioner.predict import Captioner, Result
from captioner.tokenizer import BOS, PAD, UNK


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


def texts(results: list[Result]) -> list[list[str]]:
    return [[c.text for c in result.captions] for result in results]


def scores(results: list[Result]) -> np.ndarray:
    return np.array([[c.score for c in result.captions] for result in results])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_captions_do_not_depend_on_the_batch(model, batch_size, beam_size):
    images = [picture(i) for i in range(7)]
    options = {"beam_size": beam_size, "num_captions": beam_size}
    alone = [model.caption(image, **options)[0] for image in images]
    together = model.caption(images, batch_size=batch_size, **options)
    assert texts(together) == texts(alone)
    np.testing.assert_allclose(scores(together), scores(alone), atol=1e-4)
    assert len({result.text for result in alone}) > 2


def test_the_search_score_equals_one_parallel_pass(model):
    """The incremental search and the parallel pass agree on the log-probability."""
    for image in (picture(1), picture(5)):
        best = model.caption(image)[0].best
        pixels = model.backend.read(image)
        memories = model.backend.encode([pixels])
        hypothesis = search_captions(model.backend, memories, model.config.decoding)[0][0]
        [pixels] = model.backend.stack([pixels])
        assert model.tokenizer.decode(hypothesis.tokens) == best.text
        inputs = torch.tensor([[[BOS, *hypothesis.tokens[:-1]]]])
        with torch.no_grad():
            logits = model.model(pixels, inputs)
        logits[:, [PAD, UNK, BOS]] = -math.inf
        targets = torch.tensor(hypothesis.tokens)[:, None]
        mean = logits.log_softmax(-1).gather(1, targets).mean().item()
        assert best.score == pytest.approx(mean, abs=1e-4)


def test_captions_are_sorted_and_distinct(model):
    for result in model.caption([picture(i) for i in range(3)], beam_size=5, num_captions=5):
        found = [c.score for c in result.captions]
        assert found == sorted(found, reverse=True)
        assert all(score <= 0 for score in found)
        assert len({c.text for c in result.captions}) == 5


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_errors_keep_the_positions_of_their_inputs(model, tmp_path, batch_size):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    images = [bad, picture(0), b"", picture(1), tmp_path / "missing.png"]
    found = model.caption(images, batch_size=batch_size)
    assert [result.error is None for result in found] == [False, True, False, True, False]
    assert texts(found)[1::2] == texts(model.caption([picture(0), picture(1)]))
    assert all(result.captions == () for result in found[::2])
    assert "bad.jpg" in str(found[0].error)
    with pytest.raises(ImageError, match=r"missing\.png"):
        _ = found[-1].text
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        _ = found[0].best


def test_images_in_any_form(model, tmp_path):
    image = picture(4)
    path = tmp_path / "a.png"
    image.save(path)
    forms = [image, path, str(path), path.read_bytes(), np.asarray(image)]
    forms.append(io.BytesIO(path.read_bytes()))
    assert len({result.text for result in model.caption(forms)}) == 1
    for form in [*forms[:-1], io.BytesIO(path.read_bytes())]:
        assert texts(model.caption(form)) == texts(model.caption([image]))
    assert model.caption([]) == []
    assert texts(model.caption(p for p in (path, path))) == texts(model.caption([image, image]))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_encoded_images_are_captioned_together_with_others(model, tmp_path, batch_size):
    images = [picture(i) for i in range(4)]
    mixed = [model.encode(images[0]), images[1], str(tmp_path / "missing"), model.encode(images[3])]
    results = model.caption(mixed, batch_size=batch_size)
    expected = model.caption([images[0], images[1], images[3]], batch_size=batch_size)
    assert isinstance(results.pop(2).error, ImageError)
    assert texts(results) == texts(expected)
    assert [r.text for r in model.caption(mixed[0])] == [expected[0].text]


def test_an_image_encoded_by_another_captioner_is_rejected(model, folder):
    encoded = captioner.load(folder).encode(picture(0))
    with pytest.raises(CaptionerError, match="another"):
        model.caption([picture(1), encoded])


def test_a_4d_array_is_several_images(model):
    images = [picture(i) for i in range(3)]
    stacked = np.stack([np.asarray(image) for image in images])
    assert texts(model.caption(stacked)) == texts(model.caption(images))


def test_caption_stream_holds_three_batches(model):
    taken = []

    def source():
        for i in range(12):
            taken.append(i)
            yield picture(i)

    stream = model.caption_stream(source(), batch_size=3)
    assert taken == []
    for n in range(12):
        assert isinstance(next(stream), Result)
        assert n < len(taken) <= n + 1 + 3 * 3
    assert next(stream, None) is None


@pytest.mark.parametrize(
    ("options", "expected_message"),
    [
        ({"beam_size": 0}, "beam_size"),
        ({"num_captions": 0}, "num_captions"),
        ({"num_captions": 4, "beam_size": 3}, "num_captions=4"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 13}, "12"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_options_are_checked(model, options, expected_message):
    with pytest.raises(CaptionerError, match=expected_message):
        model.caption(picture(0), **options)


def test_max_length_limits_captions(model):
    for length in (1, 5, 12):
        found = model.caption(picture(2), max_length=length)[0].text
        assert len(model.tokenizer.encode(found)) <= length + 2  # EOS, and a piece for the blank


def test_auto_dtype_is_int8_on_a_cpu_with_kernels(folder):
    images = [picture(i) for i in range(3)]
    name = "int8" if can_pack(torch.device("cpu")) else "float32"
    found, expected = (captioner.load(folder, dtype=dtype) for dtype in ("auto", name))
    assert found.dtype == expected.dtype
    assert (scores(found.caption(images)) == scores(expected.caption(images))).all()
    assert captioner.load(folder, dtype="auto", compile=True).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_lower_precision_scores_are_close(folder, model, dtype):
    half = captioner.load(folder, dtype=dtype)
    images = [picture(i) for i in range(3)]
    backbone = half.model.backbone
    layers = [m for m in backbone.modules() if isinstance(m, (PackedConv, torch.nn.Conv2d))]
    assert {layer.bias.dtype for layer in layers} == {half.dtype}
    behind = torch.float32 if dtype == "int8" else half.dtype
    assert half.model.memory_encoder.positions.dtype == behind
    difference = scores(half.caption(images)) - scores(model.caption(images))
    assert np.abs(difference).max() < 0.3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("count", [2, 4])
def test_tta_averages_the_features_of_the_views(folder, count, dtype):
    several = captioner.load(folder, tta=count, dtype=dtype)
    plain, _, _ = load_checkpoint(folder)
    size = several.backend.specs[0].size
    sizes = view_sizes(size, len(plain.memory_encoder.positions), count)
    plain.backbone = tta.TestTimeAugmentation(dict.fromkeys(sizes, plain.backbone))
    [pixels] = several.backend.stack([several.backend.read(picture(i)) for i in range(3)])
    once = captioner.load(folder, dtype=dtype)
    with torch.inference_mode():
        found, expected = several.model.backbone(pixels), plain.backbone(pixels.float())
        other = once.model.backbone(pixels)
    rounding = 1e-4 if dtype == "float32" else 0.05
    assert (found - expected).norm() < rounding * expected.norm()
    assert (other - expected).norm() > 0.2 * expected.norm()
    if dtype == "float32":  # other types may round nearly equal probabilities differently
        images = [picture(i) for i in range(7)]
        found = several.caption(images, batch_size=3)
        assert texts(found) == texts([several.caption(image)[0] for image in images])
        assert texts(found) != texts(once.caption(images))


def test_a_backbone_of_fixed_size_allows_two_views_only(tmp_path):
    folder = make_checkpoint(tmp_path / "best")
    model, tokenizer, config = load_checkpoint(folder)

    class OneSize(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.models = model.backbone, []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-1] == config.image.size, "expected\n64 pixels"
            return self.inner(x)

    model.backbone = OneSize()
    assert (
        Captioner.of_model(copy.deepcopy(model), tokenizer, config, tta=2)
        .caption(picture(0))[0]
        .text
    )
    with pytest.raises(CaptionerError, match=r"tta=4.*expected 64 pixels"):
        Captioner.of_model(model, tokenizer, config, tta=4)


@pytest.mark.parametrize("count", [0, 3, 8, 2.5])
def test_other_values_of_tta_are_rejected(folder, count):
    with pytest.raises(CaptionerError, match=r"tta=.*1, 2, 4"):
        captioner.load(folder, tta=count)


def test_the_deprecated_name_of_tta_works_with_a_warning(folder):
    with pytest.warns(DeprecationWarning, match=r"load\(looks=...\) is now tta=...") as caught:
        model = captioner.load(folder, looks=2)
    assert len(caught) == 1
    assert Path(caught[0].filename).name == Path(__file__).name
    expected = captioner.load(folder, tta=2)
    assert texts(model.caption(picture(0))) == texts(expected.caption(picture(0)))
    with pytest.raises(CaptionerError, match="looks is the old name of tta"):
        captioner.load(folder, looks=2, tta=4)


@pytest.mark.slow
def test_compiled_models_give_the_same_captions(folder, model, monkeypatch):
    # Traced and guarded as for generated C++, which test_compile.py compiles.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    images = [picture(i) for i in range(5)]
    compiled = captioner.load(folder, compile=True)
    for batch_size in (2, 5):
        found = compiled.caption(images, batch_size=batch_size)
        assert texts(found) == texts(model.caption(images))
        assert scores(found) == pytest.approx(scores(model.caption(images)), abs=1e-4)


def test_unusable_checkpoints_and_devices_are_rejected(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        captioner.load(tmp_path)
    with pytest.raises(CaptionerError, match="int4"):
        captioner.load(folder, dtype="int4")
    with pytest.raises(CaptionerError, match="compile"):
        captioner.load(folder, dtype="int8", compile=True)
    with pytest.raises(CaptionerError, match="int8"):
        captioner.load(folder, dtype="int8", device="meta")
    with pytest.raises(CaptionerError, match="nowhere"):
        captioner.load(folder, device="nowhere")
