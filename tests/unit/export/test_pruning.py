"""Pruning of heads, inner units and layers: `captioner export --prune`."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from backend_pairs import assert_same_answers, assert_same_captions, load_pair
from drawn_images import make_flickr, make_questions
from graph_export import RESNET, make_model
from safetensors.torch import load_file
from small_models import SIZES, small_model, train_small_tokenizer
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.build import load_checkpoint
from captioner.checkpoint import WEIGHTS
from captioner.cli import export
from captioner.config import BackboneConfig, QuestionConfig
from captioner.data.collate import Batch, decoder_input
from captioner.errors import ConfigError
from captioner.export import importance as measure
from captioner.export import pruning
from captioner.export.onnx_graphs import export_graphs
from captioner.export.pruning import (
    ROUNDS,
    choose_units,
    count_weights,
    describe_sizes,
    drop_backbone,
    drop_layer,
    header_bytes,
    remove_units,
)
from captioner.model.kind_head import KindHead
from captioner.model.layer_units import Units, list_units
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import EOS

EFFICIENTNET = BackboneConfig("test_efficientnet", "none")
POSITIONS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flickr(tmp_path_factory.mktemp("data") / "flickr", val=(4,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best", decoder_layers=1)


@pytest.fixture
def model(checkpoint: Path) -> Seq2Seq:
    return load_checkpoint(checkpoint, for_training=True)[0].requires_grad_(False)


def batch(seed: int, *, question: bool = False) -> Batch:
    """Return the features of one image with two captions, or two answers."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, POSITIONS, 1024, generator=generator)
    labels = torch.randint(4, 250, (2, 1, 4) if question else (1, 2, 4), generator=generator)
    labels[..., -1] = EOS
    questions = torch.randint(4, 250, (2, 5), generator=generator) if question else None
    owners = torch.zeros(2, dtype=torch.long) if question else None
    inputs = decoder_input(labels)
    return Batch(features, inputs, labels, questions, owners, 0, [0], [[0]], [])


def prune(checkpoint: Path, output: Path, size: float, data: Path, *flags: str) -> None:
    words = [str(checkpoint), "--prune", str(size), "--output", str(output), "--data", str(data)]
    assert export.main([*words, *flags]) == 0


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def test_the_importance_is_the_gradient_of_a_scale_of_the_output(model):
    """By hand: a unit is scaled by scaling the columns of the weight that read it."""
    name, tasks = "decoder.layers.0.self_attn", [[batch(0), batch(1)]]
    units = list_units(model)
    found = measure.measure_importance(model, units, tasks)[name]
    expected = torch.zeros(units[name].count)
    output, depth = getattr(units[name].owner, units[name].output), units[name].depth
    whole = output.weight.clone()
    for one in tasks[0]:
        for i in range(len(expected)):
            losses = []
            for scale in (1 - 1e-2, 1 + 1e-2):
                output.weight.copy_(whole)
                output.weight[:, i * depth : (i + 1) * depth] *= scale
                losses.append(measure.image_loss(model, one).item())
            expected[i] += abs(losses[1] - losses[0]) / 2e-2 / len(tasks[0])
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0.02)


def test_units_that_no_task_uses_have_no_importance(model):
    units = list_units(model)
    captions = measure.measure_importance(model, units, [[batch(0)]])
    assert {name.split(".")[0] for name in captions} == {"memory_encoder", "decoder"}
    both = measure.measure_importance(model, units, [[batch(0)], [batch(1, question=True)]])
    assert both.keys() == units.keys()


def test_units_are_removed_by_importance_per_weight_down_to_one_of_each_layer(model):
    units = {k: u for k, u in list_units(model).items() if k.startswith("decoder.")}
    ffn, attention, cross = units
    importance = {
        attention: torch.tensor([0.0, 1.0]),
        cross: torch.tensor([9.0, 9.0]),
        ffn: torch.linspace(2, 1, 64),
    }
    assert choose_units(units, importance, 0) == {}
    assert choose_units(units, importance, 1) == {attention: [1]}
    # The last inner units are the least important; whole blocks of 8 are removed.
    more = choose_units(units, importance, units[attention].weights + 1)
    assert more[cross] == [1] if cross in more else more[ffn] == [*range(56)]
    everything = choose_units(units, importance, 10**9)
    assert everything == {attention: [1], cross: [1], ffn: [*range(8)]}


def test_importance_is_measured_again_after_each_part_of_the_removal(model, monkeypatch):
    counts, measured = [], pruning.measure_importance

    def record(model, units, tasks):
        counts.append(count_weights(model))
        return measured(model, units, tasks)

    monkeypatch.setattr(pruning, "measure_importance", record)
    before, excess = count_weights(model), 10_000
    remove_units(model, [[batch(0)]], excess)
    assert count_weights(model) <= before - excess
    assert len(counts) == ROUNDS
    assert counts == sorted(set(counts), reverse=True)


def test_a_head_without_effect_is_removed_first_and_nothing_changes(model, checkpoint):
    units = list_units(model)
    name = "decoder.layers.0.encoder_attn"
    output, depth = getattr(units[name].owner, units[name].output), units[name].depth
    output.weight[:, :depth] = 0
    tasks = [[batch(0)], [batch(1, question=True)]]
    expected = [measure.image_loss(model, one[0]) for one in tasks]
    kept = choose_units(units, measure.measure_importance(model, units, tasks), 1)
    assert kept == {name: [1]}
    units[name].keep(kept[name])
    for one, loss in zip(tasks, expected, strict=True):
        torch.testing.assert_close(measure.image_loss(model, one[0]), loss)
    config = load_checkpoint(checkpoint)[2].model
    assert describe_sizes(model, config).sizes == {name: 1}


def test_the_layer_that_matters_least_is_dropped(model, checkpoint):
    layer = model.memory_encoder.layers[0]
    for part in (layer.self_attn.out_proj, layer.fc2):
        part.weight.data.zero_()
        part.bias.data.zero_()
    one = batch(0)
    expected = measure.image_loss(model, one)
    drop_layer(model, [[one]])
    assert len(model.memory_encoder.layers) == 0
    torch.testing.assert_close(measure.image_loss(model, one), expected)
    section = describe_sizes(model, load_checkpoint(checkpoint)[2].model)
    assert (section.encoder_layers, section.decoder_layers, section.sizes) == (0, 1, {})


def test_the_backbone_without_which_the_loss_is_lowest_is_dropped(tmp_path):
    model = make_model(tmp_path / "two", RESNET, EFFICIENTNET).requires_grad_(False)
    config = load_checkpoint(tmp_path / "two")[2]
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parts, whole = model.backbone.features_of_each(pixels), copy.deepcopy(model.memory_encoder)
    one = dataclasses.replace(batch(0), images=torch.cat(parts, -1))
    tasks, small = drop_backbone(model, [[one]], config)
    left = config.model.backbones.index(small.model.backbones[0])
    assert len(small.model.backbones) == len(model.backbone.models) == 1
    torch.testing.assert_close(model.backbone(pixels), parts[left])
    torch.testing.assert_close(tasks[0][0].images, parts[left])
    start = parts[0].shape[-1] * left
    kept = torch.arange(start, start + parts[left].shape[-1])
    norm, projection = whole.feature_norm, whole.projection
    expected = F.layer_norm(parts[left], kept.shape, norm.weight[kept], norm.bias[kept])
    expected = expected @ projection.weight[:, kept].T + projection.bias
    encoder = model.memory_encoder
    torch.testing.assert_close(encoder.projection(encoder.feature_norm(parts[left])), expected)
    loss = measure.image_loss(model, tasks[0][0])
    other = torch.tensor([i for i in range(one.images.shape[-1]) if i not in kept])
    model.memory_encoder = whole
    whole.keep_channels(other)
    without = dataclasses.replace(one, images=one.images[..., other])
    assert loss < measure.image_loss(model, without)
    with pytest.raises(ConfigError, match="only one backbone"):
        drop_backbone(model, tasks, small)


@pytest.mark.slow
def test_a_checkpoint_with_fewer_backbones_works_with_both_backends(data, tmp_path):
    make_model(tmp_path / "two", RESNET, EFFICIENTNET)
    small = tmp_path / "small"
    prune(tmp_path / "two", small, 1e6, data, "--drop-backbones", "1", "--images", "2")
    export_graphs(small)
    images = [picture(i) for i in range(4)]
    pair = load_pair(str(small))
    assert_same_captions(*(each.caption(images, beam_size=3) for each in pair))


def test_the_kind_head_keeps_the_statistics_of_the_kept_channels():
    head = KindHead(5, ("photograph", "chart"))
    torch.nn.init.normal_(head.weight)
    features, kept = torch.randn(2, 4, 5), torch.tensor([0, 3])
    zeroed = copy.deepcopy(head)
    zeroed.weight.data.unflatten(1, (2, 5))[..., [1, 2, 4]] = 0
    expected = zeroed(features)
    head.keep_channels(kept)
    torch.testing.assert_close(head(features[..., kept]), expected)


def test_pruning_to_a_larger_size_is_an_error(checkpoint, data, tmp_path, capsys):
    words = [str(checkpoint), "--prune", "10", "--output", str(tmp_path / "same"), "--data", data]
    assert export.main([str(word) for word in words]) == 1
    assert "is smaller already" in capsys.readouterr().err
    assert not (tmp_path / "same").exists()


@pytest.mark.parametrize("share", [0.985, 0.99])
def test_the_size_is_met_and_the_checkpoint_can_be_loaded(
    checkpoint, data, tmp_path, share, capsys
):
    prune(checkpoint, tmp_path / "small", share, data, "--images", "2")
    assert capsys.readouterr().out == f"{tmp_path / 'small'}\n"
    sizes = [(folder / WEIGHTS).stat().st_size for folder in (checkpoint, tmp_path / "small")]
    assert sizes[1] <= share * sizes[0]
    # Captions do not use the question modules, which keep their size.
    model, _, config = load_checkpoint(tmp_path / "small")
    assert config.model.sizes
    assert {name.split(".")[0] for name in config.model.sizes} <= {"memory_encoder", "decoder"}
    counts = {name: units.count for name, units in list_units(model).items()}
    assert {name: counts[name] for name in config.model.sizes} == config.model.sizes
    record = json.loads((tmp_path / "small" / "metrics.json").read_text())
    assert record["val"] == {}
    assert record["pruning"]["weights"][1] < record["pruning"]["weights"][0]


def test_the_training_data_of_the_checkpoint_is_the_default(checkpoint, tmp_path, capsys):
    words = [str(checkpoint), "--prune", "0.97", "--output", str(tmp_path / "small")]
    assert export.main(words) == 1
    err = capsys.readouterr().err
    assert "name a data set with --data" in err
    assert "data.root is not set" in err


@pytest.mark.slow
def test_a_pruned_checkpoint_gives_the_same_texts_with_both_backends(checkpoint, data, tmp_path):
    questions = make_questions(tmp_path / "questions", val=(4,))
    small = tmp_path / "small"
    flags = ["--data", str(questions), "--drop-layers", "1"]
    prune(checkpoint, small, 0.97, data, *flags)
    config = load_checkpoint(small)[2].model
    heads = [config.sizes.get(f"decoder.layers.0.{x}_attn", 2) for x in ("self", "encoder")]
    assert 1 in heads
    assert any(name.startswith(("fusion", "answerer")) for name in config.sizes)
    export_graphs(small, dtype="int8")
    pair = load_pair(str(small))
    images = [picture(i) for i in range(4)]
    assert_same_captions(*(each.caption(images, beam_size=3) for each in pair))
    assert_same_answers(*([each.ask(x, q) for x in images for q in QUESTIONS[:2]] for each in pair))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--prune", "0.1"], "--prune needs --output"),
        (["--output", "x"], "--prune needs --output"),
        (["--prune", "0", "--output", "x"], "above 0"),
        (["--data", "x"], "--data needs --prune"),
        (["--drop-layers", "1"], "--drop-layers needs --prune"),
        (["--drop-backbones", "1"], "--drop-backbones needs --prune"),
        (["--prune", "0.5", "--output", "x", "--dtype", "int8"], "--dtype cannot be used"),
    ],
)
def test_wrong_flags(words, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        export.main(["bundled", *words])
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_size_that_cannot_be_reached_is_one_line(checkpoint, data, tmp_path, capsys):
    words = [str(checkpoint), "--prune", "0.1", "--output", str(tmp_path / "small")]
    assert export.main([*words, "--data", str(data)]) == 1
    assert "cannot be pruned below" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "small").exists()


def test_an_existing_folder_is_not_replaced(checkpoint, data, capsys):
    words = [str(checkpoint), "--prune", "0.9", "--output", str(data)]
    assert export.main([*words, "--data", str(data)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_header_is_the_part_of_the_file_without_weights(checkpoint):
    size = (checkpoint / WEIGHTS).stat().st_size
    weights = sum(x.nbytes for x in weights_of(checkpoint).values())
    assert header_bytes(checkpoint) == size - weights


def test_units_of_a_layer_have_the_weights_that_their_removal_saves(model):
    units: Units = list_units(model)["answerer.layers.0.ffn"]
    before, count = sum(p.numel() for p in model.parameters()), units.count
    units.keep(range(8))
    left = sum(p.numel() for p in model.parameters())
    assert before - left == (count - 8) * units.weights


def test_recurrent_layers_keep_their_size():
    """Of a model with an LSTM decoder and question encoder, other parts are pruned."""
    question = QuestionConfig(encoder="lstm", fusion="concat", decoder_layers=1)
    sizes = dataclasses.replace(SIZES, decoder="lstm", encoder_layers=2, question=question)
    model = small_model(train_small_tokenizer(), **vars(sizes))
    assert {name.split(".")[0] for name in list_units(model)} == {"memory_encoder", "fusion"}
    tasks = [[batch(1)], [batch(2, question=True)]]
    tasks = [[dataclasses.replace(b, images=b.images[..., :6]) for b in task] for task in tasks]
    drop_layer(model.requires_grad_(False), tasks)
    remove_units(model, tasks, 100)
    described = describe_sizes(model, sizes)
    assert (described.decoder_layers, described.question.encoder_layers) == (1, 2)
    again = small_model(train_small_tokenizer(), **vars(described))
    assert count_weights(again) == count_weights(model)
