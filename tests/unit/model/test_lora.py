"""LoRA adapters on a text encoder: training, merging and checkpoints."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from drawn_images import make_questions
from runs import assert_resumed_is_whole, best_of, run, state_of
from safetensors.torch import load_file
from tiny import make_checkpoint, make_text_encoder
from torch import Tensor

from captioner.build import load_checkpoint
from captioner.config import QuestionConfig, StageConfig, TrainConfig
from captioner.errors import ConfigError
from captioner.model.lora import add_adapters, add_new_adapters, merge_adapters
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS
from captioner.training.optimizer import build_optimizer

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")
pytestmark = pytest.mark.usefixtures("fresh_accelerate")
ENCODER = "question_encoder.model."


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_encoder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(text_encoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return make_checkpoint(folder, question=QuestionConfig(encoder=str(text_encoder)))


@pytest.fixture
def plain(checkpoint) -> Seq2Seq:
    """Build a model without adapters, in double precision."""
    return load_checkpoint(checkpoint, for_training=True)[0].double()


@pytest.fixture
def adapted(plain) -> Seq2Seq:
    """Add adapters with random weights to the model."""
    model = copy.deepcopy(plain)
    torch.manual_seed(0)
    add_adapters(model.question_encoder.model, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    return model.double().eval()


def inputs(model: Seq2Seq) -> tuple[Tensor, ...]:
    """Return two images and four questions of up to six tokens."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(
        2, 3, 64, 64, generator=generator, dtype=model.memory_encoder.positions.dtype
    )
    questions = torch.randint(4, 20, (4, 6), generator=generator)
    questions[1:3, 4:] = model.pad
    tokens = torch.tensor([BOS, 280, 281]).repeat(4, 1, 1)
    return images, tokens, questions, torch.tensor([1, 0, 0, 1])


@torch.no_grad()
def logits(model: Seq2Seq) -> Tensor:
    return model(*inputs(model))


def snapshot(model: Seq2Seq) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@needs_peft
def test_merged_model_computes_the_same(plain, adapted):
    before, own = logits(plain), snapshot(adapted)
    expected = logits(adapted)
    assert (expected - before).abs().max() > 1e-2
    plain.load_state_dict(merge_adapters(adapted))
    torch.testing.assert_close(logits(plain), expected)
    assert all(torch.equal(own[k], v) for k, v in adapted.state_dict().items())


@needs_peft
def test_new_adapters_change_nothing_and_are_random(plain, adapted):
    old = snapshot(adapted)
    plain.load_state_dict(merge_adapters(adapted))
    adapted.load_state_dict(add_new_adapters(adapted, merge_adapters(adapted)))
    assert torch.equal(logits(adapted), logits(plain))
    for key, value in adapted.state_dict().items():
        if ".lora_" in key:
            assert not torch.equal(value, old[key])
            assert bool(value.any()) == (".lora_A." in key)
    # For a model without adapters, both return the state itself.
    state = plain.state_dict()
    for same in (merge_adapters(plain), add_new_adapters(plain, state)):
        assert same.keys() == state.keys()
        assert all(torch.equal(same[k], v) for k, v in state.items())


@needs_peft
def test_only_adapters_and_new_modules_are_trained(adapted):
    adapted(*inputs(adapted)).square().sum().backward()
    stage = StageConfig(lr=1e-3, encoder_lr=1e-3)
    groups = build_optimizer(adapted, TrainConfig(), stage).param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    assert any(".lora_A." in name for name, _ in adapted.named_parameters())
    for name, parameter in adapted.named_parameters():
        learns = not name.startswith(ENCODER) or ".lora_" in name
        assert parameter.requires_grad == learns == (id(parameter) in optimized), name
        # The pooled output of the encoder is not used.
        assert (parameter.grad is not None) == (learns and ".pooler." not in name), name


@needs_peft
def test_new_adapters_keep_the_output_of_the_encoder(plain):
    model = copy.deepcopy(plain)
    add_adapters(model.question_encoder.model, 2)
    assert torch.equal(logits(model.double()), logits(plain))


@needs_peft
def test_the_rank_has_a_limit(plain):
    encoder = plain.question_encoder.model
    with pytest.raises(ConfigError, match=r"^model\.question\.lora_rank=999: at most \d+, the"):
        add_adapters(encoder, 999)


# Runs

STAGES = "train.stages=[{epochs: 2, lr: 1e-2}, {epochs: 2, lr: 1e-2}]"


def question_settings(text_encoder: Path, rank: int = 2) -> str:
    question = {"encoder": str(text_encoder), "fusion_layers": 1, "lora_rank": rank}
    return f"model.question={json.dumps(question)}"


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def encoder_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the text encoder."""
    result = {k.replace(".base_layer.", "."): v for k, v in state.items() if ".lora_" not in k}
    return part_of(result, ENCODER)


@pytest.fixture
def data(tmp_path) -> Path:
    return make_questions(tmp_path / "data")


@pytest.mark.slow
@needs_peft
def test_checkpoint_is_used_without_peft_with_the_same_results(
    data, tmp_path, text_encoder, monkeypatch
):
    once = "train.stages=[{epochs: 2, lr: 1e-2}]"
    words = ["train.ema=0.5", "train.eval_every=2", "train.weight_decay=0.5"]
    assert run(data, tmp_path / "run", question_settings(text_encoder), once, *words) == 0
    state = state_of(tmp_path / "run")
    before = load_file(text_encoder / "model.safetensors")
    for part in ("model.", "average."):
        own = part_of(state, part)
        result = encoder_of(own)
        assert result.keys() == before.keys()
        assert all(torch.equal(result[k], v) for k, v in before.items())
    moved = {k for k, v in encoder_of(best_of(tmp_path / "run")).items() if (v != before[k]).any()}
    assert moved
    assert all(k.endswith(".weight") and "embeddings" not in k for k in moved)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        model, tokenizer, config = load_checkpoint(tmp_path / "run" / "best", for_training=True)
    assert config.model.question.lora_rank == 2
    trained = copy.deepcopy(model)
    add_adapters(trained.question_encoder.model, 2)
    trained.load_state_dict(trained.state_dict() | own)  # the checkpoint holds the average
    assert tokenizer.question_tokenizer.pad == model.pad
    torch.testing.assert_close(logits(model), logits(trained.eval()), atol=1e-5, rtol=0)


@pytest.mark.slow
@needs_peft
@pytest.mark.parametrize("epochs", [2, 3])  # between the stages, and within the second
def test_resumed_run_with_adapters_equals_the_uninterrupted_one(
    data, tmp_path, text_encoder, monkeypatch, epochs
):
    words = [question_settings(text_encoder), STAGES, "train.ema=0.9", "train.patience=9"]
    assert_resumed_is_whole(data, tmp_path / "run", words, epochs, monkeypatch)


@pytest.mark.slow
@needs_peft
def test_run_starts_from_merged_weights_with_new_adapters(data, tmp_path, text_encoder):
    once = "train.stages=[{epochs: 1, lr: 1e-2}]"
    assert run(data, tmp_path / "first", question_settings(text_encoder), once) == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    # The rank of the checkpoint, another rank, or no adapters.
    for i, words in enumerate(
        ([], [question_settings(text_encoder, 3)], [question_settings(text_encoder, 0)])
    ):
        output = tmp_path / f"next {i}"
        assert run_on(data, output, start, *words, once) == 0
        weights = part_of(state_of(output), "model.")
        ranks = {v.shape[0] for k, v in weights.items() if ".lora_A." in k}
        assert ranks == ({2}, {3}, set())[i]
        assert load_checkpoint(output / "best")[2].model.question.lora_rank == (2, 3, 0)[i]
    before = encoder_of(best_of(tmp_path / "first"))
    frozen = encoder_of(part_of(state_of(tmp_path / "next 0"), "model."))
    assert all(torch.equal(frozen[k], v) for k, v in before.items())


def run_on(data: Path, output: Path, *words: str) -> int:
    """Run `train.py` without a model section; that of the checkpoint applies."""
    from captioner.cli import train

    own = [f"data.root={data}", "data.val_splits=[train]", f"train.output={output}"]
    own += ["train.tracker=none", "train.precision=no", "decoding.max_length=16"]
    return train.main([*own, *words])


def test_missing_peft_is_a_one_line_error(data, tmp_path, text_encoder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert run(data, tmp_path / "run", question_settings(text_encoder), STAGES) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: model.question.lora_rank=2 needs peft")
    assert 'run: pip install "captioner[lora]"' in last
