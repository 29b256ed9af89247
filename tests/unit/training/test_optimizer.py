"""Parameter groups and the learning-rate schedule."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_model, train_small_tokenizer
from tiny import make_text_encoder

from captioner.config import (
    Config,
    QuestionConfig,
    StageConfig,
    TrainConfig,
)
from captioner.model.image_encoder import Backbones
from captioner.tokenizer import Tokenizer
from captioner.training.optimizer import (
    build_optimizer,
    distances_to_output,
    penalty_warning,
    set_learning_rate,
)
from captioner.training.stage import start_stage


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_small_tokenizer()


@pytest.mark.parametrize("encoder_lr", [0.0, 1e-5])
@pytest.mark.parametrize("question", [None, QuestionConfig()], ids=["captions", "questions"])
def test_every_trained_parameter_is_in_one_group(encoder_lr, question, tokenizer):
    model = small_model(tokenizer, question=question)
    stage = StageConfig(lr=1e-3, encoder_lr=encoder_lr)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.07), stage)
    names = {id(p): n for n, p in model.named_parameters()}
    result = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(result) == len(set(result))
    backbone = {i for i, n in names.items() if n.startswith("backbone.")}
    assert set(result) == set(names) - (set() if encoder_lr else backbone)
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = names[id(p)]
            assert group["peak"] == (encoder_lr if id(p) in backbone else 1e-3)
            decays = p.ndim > 1 and "positions" not in name
            assert group["weight_decay"] == (0.07 if decays else 0.0), name


def train_twice(model, optimizer) -> None:
    """Make two steps on the same two captions."""
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        model(images, torch.tensor([[[2, 5, 6]], [[2, 7, 8]]])).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("settings", "reference", "options"),
    [
        ({}, torch.optim.AdamW, {"betas": (0.9, 0.98)}),
        ({"optimizer": "adamw", "betas": (0.8, 0.9)}, torch.optim.AdamW, {"betas": (0.8, 0.9)}),
        ({"optimizer": "adam"}, torch.optim.Adam, {"betas": (0.9, 0.98)}),
        ({"optimizer": "sgd"}, torch.optim.SGD, {"momentum": 0.9}),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, {}),
    ],
    ids=["default", "adamw", "adam", "sgd", "sgd without momentum"],
)
def test_the_setting_selects_an_optimizer_of_torch(tokenizer, settings, reference, options):
    """Compare two steps with those of the plain implementation of the optimizer."""
    ours, theirs = small_model(tokenizer).eval(), small_model(tokenizer).eval()
    config, stage = TrainConfig(weight_decay=0.3, **settings), StageConfig(lr=0.01)
    matrices = [p for n, p in theirs.named_parameters() if p.ndim > 1 and "positions" not in n]
    rest = [p for n, p in theirs.named_parameters() if p.ndim == 1 or "positions" in n]
    for model in (ours, theirs):
        model.backbone.requires_grad_(requires_grad=False)
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0}]
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    start = {name: p.clone() for name, p in ours.state_dict().items()}
    train_twice(ours, build_optimizer(ours, config, stage))
    train_twice(theirs, reference(groups, lr=0.01, foreach=False, **options))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    moved = [n for n, p in ours.named_parameters() if not torch.equal(p, start[n])]
    assert len(moved) > len(matrices)


def test_a_strong_penalty_is_reported():
    for kind in ("adam", "sgd"):
        assert f"train.optimizer={kind}" in penalty_warning(TrainConfig(optimizer=kind))
        assert not penalty_warning(TrainConfig(optimizer=kind, weight_decay=1e-4))
    assert not penalty_warning(TrainConfig())


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_parameters_may_have_their_first_gradient_after_the_first_step(tokenizer, kind):
    """Question modules have none as long as the batches are captions."""
    model = small_model(tokenizer, question=QuestionConfig())
    optimizer = build_optimizer(model, TrainConfig(optimizer=kind), StageConfig(lr=0.01))
    train_twice(model, optimizer)
    start = {name: p.clone() for name, p in model.fusion.named_parameters()}
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[2, 5, 6]])
    model(images, ids[None], questions=ids, owners=torch.tensor([0])).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(p, start[name]) for name, p in model.fusion.named_parameters())


def test_embeddings_have_no_weight_decay(tokenizer, tmp_path):
    """Embeddings of positions, types and words: those of this package, timm and Hugging Face."""
    encoder = str(make_text_encoder(tmp_path / "bert"))
    own = Tokenizer(tokenizer.model)
    model = small_model(own, question=QuestionConfig(fusion="concat", encoder=encoder))
    vit = timm.create_model("test_vit", num_classes=0)
    model.backbone = Backbones([vit])
    stage = StageConfig(lr=1e-3, encoder_lr=1e-3)
    still, falling = build_optimizer(model, TrainConfig(), stage).param_groups
    assert still["weight_decay"] == 0 < falling["weight_decay"]
    falling = {id(p) for p in falling["params"]}
    tables = {n: p for n, p in model.named_parameters() if p.ndim > 1 and id(p) not in falling}
    named = {f"backbone.models.0.{name}" for name in vit.no_weight_decay()}
    named |= {"memory_encoder.positions", "decoder.embed_positions.weight", "fusion.kinds"}
    names = ("word", "position", "token_type")
    named |= {f"question_encoder.model.embeddings.{n}_embeddings.weight" for n in names}
    assert tables.keys() == named & {name for name, _ in model.named_parameters()}
    assert id(model.decoder.embed_tokens.weight) in falling  # also the output projection


def test_learning_rate_decays_from_the_last_block_to_the_first(tokenizer):
    parts = [timm.create_model(n, num_classes=0) for n in ("test_efficientnet", "test_vit")]
    model = small_model(tokenizer)
    model.backbone = Backbones(parts)
    stage = StageConfig(lr=1e-3, encoder_lr=1e-4, encoder_decay=0.5)
    optimizer = build_optimizer(model, TrainConfig(), stage)
    rates = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    result = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert {r for n, r in result.items() if not n.startswith("backbone.")} == {1e-3}
    for i, part in enumerate(parts):
        own = [result[f"backbone.models.{i}.{name}"] for name, _ in part.named_parameters()]
        assert max(own) == 1e-4
        blocks = [
            {r for n, r in result.items() if n.startswith(f"backbone.models.{i}.blocks.{b}.")}
            for b in range(len(part.blocks))
        ]
        assert all(len(block) == 1 for block in blocks)
        for (before,), (after,) in itertools.pairwise(blocks):
            assert before == after / 2
        stem = "conv_stem.weight" if i == 0 else "patch_embed.proj.weight"
        assert result[f"backbone.models.{i}.{stem}"] == min(own) < min(blocks[0])


def test_only_the_last_blocks_of_each_backbone_are_trained(tokenizer):
    parts = [timm.create_model(n, num_classes=0) for n in ("test_efficientnet", "test_vit")]
    model = small_model(tokenizer)
    model.backbone = Backbones(parts)
    stage = StageConfig(encoder_lr=1e-4, encoder_blocks=2)
    train, val = SimpleNamespace(), SimpleNamespace()
    start_stage(stage, Config(), model, train, val)
    optimizer = build_optimizer(model, TrainConfig(), stage)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    back = distances_to_output(model.backbone)
    for name, p in model.backbone.named_parameters():
        assert p.requires_grad == (id(p) in trained) == (back[name] < 2), name
    for part in parts:
        needs = [p.requires_grad for p in part.parameters()]
        assert any(needs)
        # All trained blocks follow the frozen ones.
        assert needs == sorted(needs)
    assert all(id(p) in trained for p in model.decoder.parameters())


@given(
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.5),
    final=st.floats(0, 1),
)
def test_schedule_warms_up_and_decays_to_its_end(steps, warmup, final):
    stage = StageConfig(lr=2.0, warmup=warmup, final_lr=final)
    optimizer = SimpleNamespace(param_groups=[{"peak": 2.0, "lr": None}])
    rates = []
    for step in range(steps + 1):
        set_learning_rate(optimizer, stage, step=step, steps=steps)
        rates.append(optimizer.param_groups[0]["lr"])
    top = rates.index(max(rates))
    assert rates[0] > 0
    assert max(rates) == pytest.approx(2.0)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert all(a >= b - 1e-12 for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    assert top <= max(1, round(warmup * steps))
    if steps > 1:
        assert rates[steps] == pytest.approx(2.0 * final)


def test_cosine_is_halfway_in_the_middle():
    stage = StageConfig(lr=1.0, warmup=0.0, final_lr=0.2)
    optimizer = SimpleNamespace(param_groups=[{"peak": 1.0, "lr": None}])
    set_learning_rate(optimizer, stage, step=51, steps=101)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.6)


def test_schedule_scales_all_groups_alike(tokenizer):
    stage = StageConfig(lr=1e-3, encoder_lr=1e-5)
    optimizer = build_optimizer(small_model(tokenizer), TrainConfig(), stage)
    set_learning_rate(optimizer, stage, step=30, steps=77)
    for group in optimizer.param_groups:
        assert group["lr"] / group["peak"] == pytest.approx(
            optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["peak"]
        )
