"""Settings: defaults, reading and writing YAML, overrides, and errors that name the key."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.config import (
    AnswerConfig,
    BackboneConfig,
    Config,
    DataConfig,
    GraphConfig,
    ModelConfig,
    QuestionConfig,
    SourceConfig,
    StageConfig,
    TrainConfig,
    load_config,
    save_config,
    to_dict,
)
from captioner.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
# The files of the launcher `accelerate` are tested in tests/unit/training/test_distributed.py.
YAMLS = sorted(set(CONFIGS.rglob("*.y*ml")) - set(CONFIGS.glob("accelerate/*")))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_without_a_file(tmp_path):
    assert load_config() == Config() == load_config(write(tmp_path, "# nothing\n"))


def test_file_overrides_defaults(tmp_path):
    config = load_config(write(tmp_path, "train:\n  batch_size: 7\n"))
    assert config.train.batch_size == 7
    expected = dataclasses.replace(Config(), train=dataclasses.replace(TrainConfig(), batch_size=7))
    assert config == expected


UNUSUAL = Config(
    data=DataConfig(root="bilder/größe: 3#", train_splits=("train", "restval"), limit=3),
    model=ModelConfig(
        backbones=(
            BackboneConfig(name="a", weights="none", remove=("x.1",), args={"eps": 1e-3, "k": [1]}),
            BackboneConfig(name="b"),
        ),
        width=6,
        heads=3,
        graph=GraphConfig(layer="gat", layers=2, neighbors=0, heads=3),
        question=QuestionConfig(encoder="some/bert", lora_rank=4, fusion="linear"),
        blind=True,
    ),
    answers=AnswerConfig(beam_size=3, temperature=0.7),
    train=TrainConfig(
        stages=(StageConfig(cached_views=2), StageConfig(encoder_lr=3e-5)),
        precision="no",
        betas=(0.8, 0.95),
        start=None,
        ema=0.999,
    ),
)

SEVERAL = Config(
    data=DataConfig(
        sources=(
            SourceConfig("captions", weight=0.5, limit=7, augment=False),
            SourceConfig("asked.jsonl", format="jsonl", val_share=0.2, hold_out="question"),
            SourceConfig("captions", questions=True, val_splits=("test",)),
        ),
        questions_per_image=3,
    )
)


@pytest.mark.parametrize(
    "config", [Config(), UNUSUAL, SEVERAL], ids=["default", "unusual", "several"]
)
def test_saved_config_is_read_back_equal(config, tmp_path):
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@given(
    root=st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
    lr=st.floats(0, 1e3, exclude_min=True),
    flip=st.booleans(),
    limit=st.one_of(st.none(), st.integers(1)),
)
def test_any_value_is_read_back_equal(root, lr, flip, limit, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    default = Config()
    config = dataclasses.replace(
        default,
        data=dataclasses.replace(default.data, root=root, limit=limit),
        image=dataclasses.replace(default.image, flip=flip),
        train=dataclasses.replace(default.train, stages=(StageConfig(lr=lr),)),
    )
    save_config(config, path)
    assert load_config(path) == config


def test_to_dict_returns_only_plain_values():
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(to_dict(UNUSUAL))
    assert plain(to_dict(SEVERAL))


def test_all_sources_of_one_and_several_data_sets():
    one = load_config(None, ["data.root=here", "data.limit=4"]).data
    assert [(s.root, s.limit) for s in one.all_sources] == [("here", 4)]
    assert SEVERAL.data.all_sources == SEVERAL.data.sources


@pytest.mark.parametrize(
    ("word", "get", "value"),
    [
        ("train.batch_size=8", lambda c: c.train.batch_size, 8),
        ("train.stages.0.lr=5e-4", lambda c: c.train.stages[0].lr, 5e-4),
        ("train.stages.1.epochs=2", lambda c: c.train.stages[1].epochs, 2),
        ("train.precision=no", lambda c: c.train.precision, "no"),
        ("train.clip=1", lambda c: c.train.clip, 1.0),
        ("train.threads=null", lambda c: c.train.threads, None),
        ("train.threads=", lambda c: c.train.threads, None),
        ("image.flip=no", lambda c: c.image.flip, False),
        ("image.flip=true", lambda c: c.image.flip, True),
        ("image.mean=[0.5, 0.5, 0.5]", lambda c: c.image.mean, (0.5, 0.5, 0.5)),
        ("data.root=/a=b/c", lambda c: c.data.root, "/a=b/c"),
        ("data.root=8", lambda c: c.data.root, "8"),
        ("data.val_splits=[test]", lambda c: c.data.val_splits, ("test",)),
        ("model.backbones.0.args.eps=1e-3", lambda c: c.model.backbones[0].args["eps"], None),
        ("model.question.fusion=add", lambda c: c.model.question.fusion, "add"),
        ("model.question.encoder=a/b", lambda c: c.model.question.encoder, "a/b"),
        ("model.question=null", lambda c: c.model.question, None),
        ("data.sources=[{root: a}, {root: b}]", lambda c: c.data.sources[1].root, "b"),
        ("data.sources=[{weight: 2}]", lambda c: c.data.sources[0].weight, 2.0),
        ("answers.temperature=2", lambda c: c.answers.temperature, 2.0),
        ("model.backbones.0.name=resnet18", lambda c: c.model.backbones[0].name, "resnet18"),
    ],
)
def test_overrides(word, get, value, tmp_path):
    path = write(
        tmp_path,
        "train: {threads: 4, stages: [{epochs: 1}, {epochs: 1}]}\nmodel: {backbones: [{name: x}]}",
    )
    found = get(load_config(path, [word]))
    if value is not None or "args" not in word:
        assert found == value
        assert type(found) is type(value)
    else:  # the type of a free argument is that of YAML
        assert found is not None


def test_later_overrides_take_precedence(tmp_path):
    path = write(tmp_path, "train: {seed: 1}")
    assert load_config(path, ["train.seed=2"]).train.seed == 2
    assert load_config(path, ["train.seed=2", "train.seed=3"]).train.seed == 3


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("train.batchsize=3", ["train.batchsize", "train.batch_size"]),
        ("trian.seed=1", ["trian", "train"]),
        ("train.stages.0.encoder_rl=1", ["train.stages.0.encoder_rl", "encoder_lr"]),
        ("train.batch_size=many", ["train.batch_size", "many", "int"]),
        ("train.batch_size=1.5", ["train.batch_size", "1.5", "int"]),
        ("train.batch_size=true", ["train.batch_size", "True", "int"]),
        ("train.batch_size=", ["train.batch_size", "nothing"]),
        ("train.clip=true", ["train.clip", "float"]),
        ("train.clip=high", ["train.clip", "high", "float"]),
        ("image.flip=1", ["image.flip", "bool"]),
        ("data.sources=[{rot: a}]", ["data.sources.0.rot", "data.sources.0.root"]),
        ("data.sources=[{workers: 2}]", ["data.sources.0.workers"]),
        ("data.sources={root: a}", ["data.sources", "list"]),
        ("data.hold_out=row", ["data.hold_out", "row", "image, question"]),
        ("model.question.fusion=sum", ["model.question.fusion", "sum", "cross_attention"]),
        ("model.question.fussion=add", ["model.question.fussion", "model.question.fusion"]),
        ("model.question=add", ["model.question"]),
        ("train.precision=fp8", ["train.precision", "fp8", "bf16"]),
        ("image.resize=stretch", ["image.resize", "squash", "crop"]),
        ("train.betas=[0.9]", ["train.betas", "expected 2 values, found 1"]),
        ("train.stages.0=3", ["train.stages.0", "int"]),
        ("train.stages.5.lr=1", ["train.stages.5.lr=1", "'5'"]),
        ("data.val_splits=val", ["data.val_splits", "list"]),
        ("train=3", ["train", "int"]),
        ("train.seed.more=3", ["train.seed"]),
        ("novalue", ["novalue", "key.path=value"]),
        ("=3", ["key.path=value"]),
        ("data.root=[a", ["data.root"]),
    ],
)
def test_errors_name_the_key_in_one_line(word, parts, tmp_path):
    path = write(tmp_path, "train: {seed: 1, stages: [{epochs: 1}]}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [word])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words", "\x00"])
def test_file_without_a_mapping_is_named(text, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"some\.yaml"):
        load_config(path)


def test_missing_config_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["model.width=100", "model.heads=3"], ["model.width=100", "model.heads=3"]),
        (["model.graph={heads: 7}"], ["model.width=512", "model.graph.heads=7"]),
        (["model.backbones=[]"], ["model.backbones"]),
        (["model.graph={}", "model.audio={}"], ["model.graph", "model.audio"]),
        (
            ["model.question.fusion=graph", "model.audio={}"],
            ["model.question.fusion=graph", "model.audio"],
        ),
        (["decoding.max_length=50"], ["decoding.max_length=50", "model.max_length=40"]),
        (
            ["model.question.fusion=add", "answers.max_length=50"],
            ["answers.max_length=50", "model.max_length=40"],
        ),
        (["data.root=a", "data.sources=[{root: b}]"], ["data.root", "data.sources"]),
        (["data.limit=2", "data.sources=[{root: b}]"], ["data.limit", "data.sources"]),
        (["data.val_splits=[test]", "data.sources=[{root: b}]"], ["data.val_splits"]),
        (["train.stages=[{cached_views: 2, encoder_lr: 1.0e-5}]"], ["cached_views", "encoder_lr"]),
        (["model.question.lora_rank=4"], ["model.question.lora_rank=4", "model.question.encoder"]),
        (["train.stages=[{}, {weights: [1, 2]}]"], ["train.stages.1", "2 weights", "1 source"]),
        (
            ["train.stages=[{weights: [1]}]", "data.sources=[{root: a}, {root: b}]"],
            ["train.stages.0", "1 weights", "2 source"],
        ),
    ],
)
def test_contradictory_settings_are_named(words, keys):
    with pytest.raises(ConfigError) as caught:
        load_config(None, words)
    assert all(key in str(caught.value) for key in keys)


@pytest.mark.parametrize(
    "word",
    [
        "data.captions_per_image=0",
        "data.limit=0",
        "data.questions_per_image=0",
        "data.weight=0",
        "data.val_share=1",
        "answers.beam_size=0",
        "answers.temperature=0",
        "model.question.max_length=1",
        "model.question.fusion_layers=0",
        "model.question.lora_rank=-1",
        "model.question.graph_neighbors=-1",
        "model.question.classes=1",
        "model.graph.layers=0",
        "model.graph.heads=0",
        "model.graph.neighbors=-1",
        "data.workers=-1",
        "image.size=0",
        "image.min_scale=0",
        "image.min_scale=1.5",
        "image.jitter=2",
        "model.heads=0",
        "model.max_length=1",
        "model.dropout=1",
        "train.batch_size=0",
        "train.accumulate=0",
        "train.eval_every=0",
        "train.stages=[]",
        "train.ema=1",
        "train.betas=[1.5,2]",
        "train.betas=[0.9,-0.1]",
        "train.label_smoothing=-0.1",
        "decoding.beam_size=0",
    ],
)
def test_values_out_of_range_are_named(word):
    with pytest.raises(ConfigError, match=re.escape(word.split("=")[0])):
        load_config(None, [word])


def test_caption_only_model_may_be_shorter_than_answers():
    config = load_config(None, ["model.max_length=8", "decoding.max_length=8"])
    assert config.answers.max_length > config.model.max_length


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ("epochs: -1", r"train\.stages\.epochs=-1"),
        ("epochs: 0", r"train\.stages\.0: epochs=0"),
        ("weights: [0]", "weights"),
    ],
)
def test_stage_out_of_range_is_named(stage, named):
    with pytest.raises(ConfigError, match=named):
        load_config(None, [f"train.stages=[{{{stage}}}]"])


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_config_loads_and_opens_with_its_command(path):
    load_config(path)
    opening = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        opening.append(line)
    name = f"configs/{path.relative_to(CONFIGS).as_posix()}"
    assert any("train.py" in line and name in line for line in opening)


def test_configs_exist():
    assert any(path.name == "bundled.yaml" for path in YAMLS)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "nan", "inf"])
def test_infinite_numbers_are_errors(value):
    for word in (f"train.clip={value}", f"train.stages=[{{lr: {value}}}]"):
        with pytest.raises(ConfigError, match="expected a finite number"):
            load_config(None, [word])


def test_duplicate_key_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="the key 'epochs' is duplicated"):
        load_config(None, ["train.stages=[{epochs: 1, epochs: 2}]"])
    with pytest.raises(ConfigError, match="the key 'seed' is duplicated"):
        load_config(write(tmp_path, "train:\n  seed: 1\n  seed: 2\n"))
