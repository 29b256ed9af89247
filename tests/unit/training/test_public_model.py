"""A transformers model as a module of the training loop."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType
from PIL import Image
from public_training import ANSWERERS, CAPTIONERS, make_batch, make_model
from torch import Tensor
from transformers import ViTImageProcessor

from captioner.config import StageConfig, TrainConfig
from captioner.data.collate import Batch
from captioner.errors import ConfigError
from captioner.images.transforms import PixelSpec, normalize
from captioner.model.lora import add_chosen_adapters, freeze_adapted, merge_adapters
from captioner.training.distributed import check_whole
from captioner.training.loss import CaptionReward, Objective
from captioner.training.optimizer import build_optimizer, distances_to_output
from captioner.training.public_model import PREFIX, PublicModel, backend_of
from captioner.training.public_start import (
    ProcessorPixels,
    list_adapted_layers,
    read_normalization,
)
from captioner.training.samples import sample_captions
from captioner.training.stage import train_mode, unfreeze

each_family = pytest.mark.parametrize("name", sorted(CAPTIONERS))
each_slow_family = pytest.mark.parametrize(
    "name",
    [n if n == "blip" else pytest.param(n, marks=pytest.mark.slow) for n in sorted(CAPTIONERS)],
)
each_answerer = pytest.mark.parametrize("name", sorted(ANSWERERS))
QUESTIONS = ("what color is the dog?", "is it a bus?")


def loss_of(model: PublicModel, batch: Batch, **options: Any) -> Tensor:
    """Return the cross-entropy per token."""
    goal = Objective(StageConfig(), smoothing=0.0, max_length=8, pad=-1, **options)
    loss = goal(model, batch, full_model=lambda: nullcontext(model))
    return loss.total / loss.tokens


def library_inputs(model: PublicModel, batch: Batch) -> dict[str, Any]:
    """Return the arguments of the library's own `forward` for the captions of a batch."""
    family = model.family
    rows, labels = [], []
    for image, texts in enumerate(batch.labels.tolist()):
        for text in texts:
            if ids := [i for i in text if i >= 0]:
                rows.append(image)
                labels.append(ids)
    start = list(getattr(family, "start_tokens", ())) or family.caption_prompt()
    length = len(start) + max(map(len, labels))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), -100)
    for row, text in enumerate(labels):
        ids[row, : len(start) + len(text)] = torch.tensor([*start, *text])
        targets[row, len(start) : len(start) + len(text)] = torch.tensor(text)
    assert batch.images is not None
    pixels = batch.images[rows]
    if family.model.config.model_type == "vision-encoder-decoder":
        return {"pixel_values": pixels, "decoder_input_ids": ids[:, :-1], "labels": targets[:, 1:]}
    return {"pixel_values": pixels, "input_ids": ids, "labels": targets}


@each_family
def test_loss_equals_that_of_transformers(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name).eval()
    batch = make_batch(model)
    expected = model.family.model(**library_inputs(model, batch)).loss
    torch.testing.assert_close(loss_of(model, batch), expected)


@each_family
def test_logits_of_a_text_equal_those_of_the_search(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name).eval()
    batch = make_batch(model)
    assert batch.images is not None
    backend = backend_of(model, device=torch.device("cpu"))
    with torch.inference_mode():
        logits = model(batch.images, batch.tokens)
        memories = backend.encode_tensors([batch.images])
    written = batch.labels >= 0
    chosen = logits.log_softmax(-1).gather(-1, batch.labels[written][:, None])[:, 0]
    scores = torch.from_numpy(backend.score(memories, batch.labels.numpy()))
    torch.testing.assert_close(chosen, scores[written], atol=1e-4, rtol=1e-4)


@each_family
def test_features_give_the_loss_of_pixels(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name).eval()
    batch = make_batch(model)
    assert batch.images is not None
    features = model.backbone(batch.images).detach()
    torch.testing.assert_close(
        loss_of(model, replace(batch, images=features)), loss_of(model, batch)
    )


@each_family
def test_weights_multiply_the_losses_of_texts(tmp_path: Path, name: str) -> None:
    """With pixels and with cached features."""
    model = make_model(tmp_path, name).eval()
    weights = torch.tensor([[0.5, 2.0], [3.0, 0.0]])
    batch = replace(make_batch(model), weights=weights)
    assert batch.images is not None
    pad = model.family.vocabulary.pad
    goal = Objective(StageConfig(), smoothing=0.0, max_length=8, pad=pad)
    written = batch.labels != pad  # (B, K, T)
    losses = torch.zeros(written.shape)
    logits = model(batch.images, batch.tokens)
    losses[written] = F.cross_entropy(logits, batch.labels[written], reduction="none")
    for images in (batch.images, model.backbone(batch.images)):
        result = goal(model, replace(batch, images=images), full_model=lambda: nullcontext(model))
        torch.testing.assert_close(result.total, (losses.sum(-1) * weights).sum())
        assert result.tokens == (written.sum(-1) * weights).sum()


@each_slow_family
def test_one_batch_is_learned(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name)
    batch = make_batch(model, [["a dog runs"], ["two cats sleep on a red couch"]])
    stage = StageConfig(lr=6e-3, encoder_lr=1e-3)
    unfreeze(stage, model)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0), stage)
    train_mode(model)
    torch.manual_seed(0)
    for _ in range(70):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert loss_of(model, batch) < 0.1
    backend = backend_of(model, device=torch.device("cpu"))
    with torch.inference_mode():
        memories = backend.encode_tensors([batch.images])
    texts = sample_captions(backend, memories, rows=2, max_length=16, greedy=True)[:, -1]
    decoded = [model.family.vocabulary.decode(row) for row in texts.tolist()]
    assert decoded == ["a dog runs", "two cats sleep on a red couch"]


@each_slow_family
def test_self_critical_steps_raise_the_reward(tmp_path: Path, name: str) -> None:
    """The references are two words; the model begins with random texts."""
    model = make_model(tmp_path, name)
    batch = make_batch(model, [["red dog"], ["blue cat"]])
    vocabulary = model.family.vocabulary
    reward = CaptionReward({0: ["red dog"], 1: ["green bus"], 2: ["a man"]}, vocabulary, bleu=1.0)
    stage = StageConfig(objective="scst", samples=8, lr=3e-3)
    unfreeze(stage, model)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0), stage)
    # Cross-entropy first, with a wrong word for the second image.
    torch.manual_seed(0)
    for _ in range(25):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    goal = Objective(stage, smoothing=0.0, max_length=6, reward=reward, pad=-1)
    rewards = []
    for _ in range(40):
        result = goal(model, batch, full_model=lambda: nullcontext(model))
        assert result.reward is not None
        rewards.append(float(result.reward))
        optimizer.zero_grad()
        (result.total / result.tokens).backward()
        optimizer.step()
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8])


@each_answerer
def test_answers_have_the_logits_of_the_search(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name).eval()
    batch = make_batch(model, [["green and blue"], ["no"]], QUESTIONS)
    assert batch.questions is not None
    assert batch.owners is not None
    backend = backend_of(model, device=torch.device("cpu"))
    with torch.inference_mode():
        logits = model(batch.images, batch.tokens, batch.questions, batch.owners)
        memories = backend.encode_tensors([batch.images])
        memories = backend.fuse_questions(memories, batch.questions, batch.owners)
    written = batch.labels >= 0
    chosen = logits.log_softmax(-1).gather(-1, batch.labels[written][:, None])[:, 0]
    scores = torch.from_numpy(backend.score(memories, batch.labels.numpy()))
    torch.testing.assert_close(chosen, scores[written], atol=1e-4, rtol=1e-4)


def test_loss_of_an_answer_equals_that_of_transformers(tmp_path: Path) -> None:
    model = make_model(tmp_path, "blip-vqa").eval()
    batch = make_batch(model, [["green and blue"]], QUESTIONS[:1])
    answer = torch.tensor([[*model.family.start_tokens, *batch.labels[0, 0].tolist()]])
    targets = answer.clone()
    targets[:, 0] = -100
    expected = model.family.model(
        pixel_values=batch.images, input_ids=batch.questions, decoder_input_ids=answer,
        labels=targets, attention_mask=torch.ones_like(batch.questions),
    ).loss  # fmt: skip
    torch.testing.assert_close(loss_of(model, batch), expected)


@each_family
def test_frozen_encoder_and_its_last_block(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name)
    encoder = {id(p) for p in model.backbone.parameters()}
    unfreeze(StageConfig(), model)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained
    assert not trained & encoder
    unfreeze(StageConfig(encoder_lr=1e-4), model)
    assert all(p.requires_grad for p in model.backbone.parameters())
    unfreeze(StageConfig(encoder_lr=1e-4, encoder_blocks=1), model)
    distances = distances_to_output(model.backbone)
    assert set(distances.values()) == {0, 1, 2}  # two blocks and the embeddings
    last = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert last == {name for name, distance in distances.items() if distance == 0}


@each_family
def test_the_rank_of_adapters_has_a_limit(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name)
    names = list(list_adapted_layers(model, encoder=True))
    limit = min(min(model.model.get_submodule(name).weight.shape) for name in names)
    message = rf"train\.lora_rank={limit + 1}: at most {limit}, the smaller side of the weights of"
    with pytest.raises(ConfigError, match=message):
        add_chosen_adapters(model.model, limit + 1, names)
    with pytest.raises(ConfigError, match=message.replace(f"={limit + 1}", f"={10**12}")):
        add_chosen_adapters(model.model, 10**12, names)
    add_chosen_adapters(model.model, limit, names)


@each_family
def test_merged_adapters_give_equal_logits(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name).eval()
    batch = make_batch(model)
    plain = model(batch.images, batch.tokens).detach()
    names = list(list_adapted_layers(model, encoder=False))
    assert not any(name in names for name in dict(model.backbone.module.named_modules()))
    add_chosen_adapters(model.model, 2, names)
    model.has_adapters = True
    model.eval()
    torch.testing.assert_close(model(batch.images, batch.tokens), plain)
    freeze_adapted(model)
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad == (".lora_" in key)
        if ".lora_B." in key:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = model(batch.images, batch.tokens).detach()
    assert not torch.allclose(adapted, plain, atol=1e-3)
    merged = make_model(tmp_path / "again", name).eval()
    merged.load_state_dict(merge_adapters(model))
    torch.testing.assert_close(merged(batch.images, batch.tokens), adapted, atol=1e-4, rtol=1e-4)


def test_weights_have_one_name(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    assert all(name.startswith(PREFIX) for name in model.state_dict())
    assert len(model.state_dict()) == len(model.model.state_dict())


def test_a_transformers_model_is_not_shared_between_ranks() -> None:
    check_whole(SimpleNamespace(distributed_type=DistributedType.MULTI_CPU), "blip")
    with pytest.raises(ConfigError, match="cannot be trained with FSDP"):
        check_whole(SimpleNamespace(distributed_type=DistributedType.FSDP), "blip")


def test_normalization_of_a_processor() -> None:
    """Pixels of a processor equal (value / 255 - mean) / std."""
    options = [{}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5}, {"do_rescale": False}]
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)
    for some in options:
        processor = ViTImageProcessor(size={"height": 4, "width": 4}, **some)
        mean, std = read_normalization(processor)
        expected = normalize(image, PixelSpec((4, 4), mean, std))
        np.testing.assert_allclose(ProcessorPixels(processor)(image), expected, atol=1e-4)
