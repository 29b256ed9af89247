"""Distillation from a teacher's distributions and memories."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch
from small_models import SIZES, small_model, train_small_tokenizer
from torch import nn

from captioner.config import (
    Config,
    ImageConfig,
    QuestionConfig,
    StageConfig,
    TeacherConfig,
    TrainConfig,
    load_config,
)
from captioner.data.collate import Batch, collate
from captioner.data.dataset import Sample
from captioner.errors import ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import PAD, Tokenizer
from captioner.training import teacher as distillation
from captioner.training.loss import Objective, caption_loss
from captioner.training.teacher import Teacher, distillation_loss, memory_loss

SPEC = PixelSpec((16, 16), (0.5,) * 3, (0.5,) * 3)
QUESTION = QuestionConfig(encoder_layers=1, fusion_layers=1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_small_tokenizer()


def build(tokenizer: Tokenizer, seed: int = 0, **changes) -> Seq2Seq:
    """Build a model without dropout, whose batch norms use their stored statistics."""
    return small_model(tokenizer, seed, **changes).eval()


def batch_of(tokenizer: Tokenizer, *, question: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(3)
    texts = [["a red circle"], ["a blue square", "a square"]]
    samples = []
    for i, some in enumerate(texts):
        ids = [tokenizer.encode(text, max_length=8) for text in some]
        image = torch.randn(3, 16, 16, generator=generator)
        samples.append(Sample(i, image, ids, ids if question else []))
    return collate(samples)


def teacher_of(*models: Seq2Seq, spec: PixelSpec = SPEC, **settings) -> Teacher:
    config = TeacherConfig(("x",), **settings)
    return Teacher(config, models, [spec] * len(models), student=SPEC, knows_questions=True)


def loss_of(model: nn.Module, batch: Batch, teacher: Teacher | None) -> torch.Tensor:
    goal = Objective(StageConfig(), smoothing=0.1, max_length=8, teacher=teacher)
    return goal(model, batch, full_model=lambda: nullcontext(model)).total


def test_word_level_loss_by_hand():
    """Two classes: the teacher says 0.8 and 0.2, the student 0.5 and 0.5."""
    target, own = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
    found = distillation_loss(own.log(), [target.log()], temperature=1)
    # 0.8 log 1.6 + 0.2 log 0.4
    assert found.item() == pytest.approx(0.192745, abs=1e-5)
    twice = distillation_loss(own.log().expand(2, 2), [target.log().expand(2, 2)], temperature=1)
    assert twice.item() == pytest.approx(2 * found.item())
    # At temperature 2, the teacher's odds of 4 are 2: 2/3 log 4/3 + 1/3 log 2/3, times 2^2.
    warm = distillation_loss(own.log(), [target.log()], temperature=2)
    assert warm.item() == pytest.approx(4 * 0.0566330, abs=1e-5)


def test_high_temperature_compares_centered_logits():
    """Its limit is half the squared distance of the centered logits / V (Hinton et al. 2015)."""
    torch.manual_seed(0)
    own, target = torch.randn(3, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    difference = (own - own.mean(-1, keepdim=True)) - (target - target.mean(-1, keepdim=True))
    found = distillation_loss(own, [target], temperature=200)
    torch.testing.assert_close(found.double(), (difference**2).sum() / 14, rtol=0.02, atol=0)


def test_an_ensemble_is_the_mean_of_the_probabilities():
    torch.manual_seed(1)
    own, *members = torch.randn(4, 5, 9)
    mean = torch.stack([member.softmax(-1) for member in members]).mean(0)
    found = distillation_loss(own, members, temperature=1)
    torch.testing.assert_close(found, distillation_loss(own, [mean.log()], temperature=1))


def test_equal_distributions_have_no_loss_and_no_gradient():
    own = torch.randn(4, 6, requires_grad=True)
    loss = distillation_loss(own, [own.detach(), own.detach()], temperature=3)
    loss.backward()
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.grad, torch.zeros(4, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("question", [None, QUESTION], ids=["captions", "questions"])
def test_a_student_that_is_its_teacher_keeps_its_share_of_the_cross_entropy(tokenizer, question):
    student = build(tokenizer, question=question)
    batch = batch_of(tokenizer, question=question is not None)
    teacher = teacher_of(copy.deepcopy(student), words=0.25, features=1.0)
    alone = loss_of(student, batch, None)
    torch.testing.assert_close(loss_of(student, batch, teacher), 0.75 * alone)


def test_the_losses_are_combined_by_their_weights(tokenizer):
    student, other = build(tokenizer), build(tokenizer, seed=1)
    batch = batch_of(tokenizer)
    logits, targets = (m(batch.images, batch.tokens) for m in (student, other))
    labels = batch.labels[batch.labels != PAD]
    memories = [m.encode(batch.images) for m in (student, other)]
    expected = 0.6 * caption_loss(logits, labels, smoothing=0.1)
    expected = expected + 0.4 * distillation_loss(logits, [targets], temperature=2)
    expected = expected + 3 * len(labels) * (memories[0] - memories[1]).square().mean()
    teacher = teacher_of(other, words=0.4, temperature=2, features=3.0)
    torch.testing.assert_close(loss_of(student, batch, teacher), expected)


def test_the_gradient_reaches_the_student_only(tokenizer):
    student, other = build(tokenizer), build(tokenizer, seed=1).train()
    batch = batch_of(tokenizer)
    loss_of(student, batch, teacher_of(other, words=1.0, features=1.0)).backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in other.parameters())
    assert not other.training


def test_answers_use_cross_entropy_alone_if_the_teacher_has_no_question_modules(tokenizer):
    student, other = build(tokenizer, question=QUESTION), build(tokenizer, seed=1)
    batch = batch_of(tokenizer, question=True)
    teacher = teacher_of(other, words=0.5)
    teacher.knows_questions = False
    torch.testing.assert_close(loss_of(student, batch, teacher), loss_of(student, batch, None))


@pytest.mark.parametrize(("positions", "width"), [(4, 12), (9, 8), (16, 4)])
def test_memories_of_another_shape_can_be_matched(positions, width):
    torch.manual_seed(0)
    target = torch.randn(2, positions, width)
    memory = torch.randn(2, 4, 8, requires_grad=True)
    optimizer = torch.optim.Adam([memory], lr=0.05)
    losses = []
    for _ in range(200):
        losses.append(memory_loss(memory, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.01 * losses[0]


def test_similarities_do_not_depend_on_a_rotation_or_the_scale():
    memory = torch.randn(2, 4, 6)
    rotation = torch.linalg.qr(torch.randn(8, 8))[0][:6]
    loss = memory_loss(memory, 3 * memory @ rotation)  # from 6 to 8 dimensions
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-6, rtol=0)


def test_pixels_are_converted_to_the_size_and_range_of_the_teacher(tokenizer):
    """A constant image stays constant, with the teacher's normalization."""
    other = PixelSpec((32, 32), (0.2, 0.4, 0.6), (0.1, 0.2, 0.25))
    gray = torch.full((1, 3, 16, 16), 0.0)  # 0.5 before normalization
    found = distillation.convert(gray, SPEC, other)
    expected = torch.tensor([3.0, 0.5, -0.4])[:, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(found, expected)
    pixels = torch.randn(2, 3, 16, 16)
    assert distillation.convert(pixels, SPEC, SPEC) is pixels


def test_a_teacher_of_another_size_sees_larger_pixels(tokenizer):
    student = build(tokenizer)
    other = build(tokenizer, seed=1)
    other.memory_encoder.resize(16)
    teacher = teacher_of(other, spec=dataclasses.replace(SPEC, size=(32, 32)), features=1.0)
    assert loss_of(student, batch_of(tokenizer), teacher).isfinite()


@pytest.fixture
def loadable(monkeypatch):
    """Let `load_teacher` get these models by name."""
    models = {}
    monkeypatch.setattr(distillation, "load_checkpoint", lambda name, **_: models[name])
    return models


def run_config(tokenizer: Tokenizer, question: QuestionConfig | None = None, **teacher) -> Config:
    image = ImageConfig(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    train = TrainConfig(teacher=TeacherConfig(("one",), **teacher))
    sizes = dataclasses.replace(SIZES, question=question)
    decoding = dataclasses.replace(Config().decoding, max_length=8)
    answers = dataclasses.replace(Config().answers, max_length=8)
    return Config(image=image, model=sizes, train=train, decoding=decoding, answers=answers)


def test_another_tokenizer_is_an_error_for_words_only(tokenizer, loadable):
    other = Tokenizer.train(["one green triangle", "two dogs"] * 20, vocab_size=300)
    student = build(tokenizer)
    loadable["one"] = build(other), other, run_config(other)
    with pytest.raises(ConfigError, match="one: its tokenizer differs"):
        distillation.load_teacher(student, tokenizer, run_config(tokenizer))
    config = run_config(tokenizer, words=0.0, features=1.0)
    assert distillation.load_teacher(student, tokenizer, config) is not None


def test_a_teacher_with_fewer_positions_is_an_error(tokenizer, loadable):
    student = build(tokenizer)
    loadable["one"] = build(tokenizer, max_length=7), tokenizer, run_config(tokenizer)
    with pytest.raises(ConfigError, match="one: it has 7 positions for tokens, and the student 8"):
        distillation.load_teacher(student, tokenizer, run_config(tokenizer))


def test_no_teacher_is_loaded_for_captions_alone(tokenizer):
    config = run_config(tokenizer, words=0.0, captions=2)
    assert distillation.load_teacher(build(tokenizer), tokenizer, config) is None


@pytest.mark.parametrize(
    ("theirs", "own", "knows"),
    [
        (None, QUESTION, False),
        (QUESTION, QUESTION, True),
        (dataclasses.replace(QUESTION, max_length=8), QUESTION, False),
        (dataclasses.replace(QUESTION, encoder="bert"), QUESTION, False),
    ],
)
def test_a_teacher_answers_questions_that_it_can_read(
    tokenizer, loadable, theirs, own, knows, caplog
):
    student = build(tokenizer, question=own)
    loadable["one"] = build(tokenizer), tokenizer, run_config(tokenizer, theirs)
    loaded = distillation.load_teacher(student, tokenizer, run_config(tokenizer, own))
    assert loaded.knows_questions == knows
    assert ("not used for answers" in caplog.text) == (not knows)


def test_cached_features_need_the_same_backbone_and_size(tokenizer):
    student = build(tokenizer)
    teacher = teacher_of(copy.deepcopy(student))
    teacher.check_features(student.backbone, SPEC, "train.stages.0")
    with pytest.raises(ConfigError, match=r"train\.stages\.0: cached_views"):
        teacher.check_features(student.backbone, dataclasses.replace(SPEC, size=(32, 32)),
                               "train.stages.0")  # fmt: skip
    with torch.no_grad():
        student.backbone.conv.bias.add_(1)
    with pytest.raises(ConfigError, match="set cached_views=0"):
        teacher.check_features(student.backbone, SPEC, "train.stages.0")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("{words: 1}", "checkpoints is empty"),
        ("{checkpoints: [a], words: 1.5}", "words"),
        ("{checkpoints: [a], temperature: 0}", "temperature"),
        ("{checkpoints: [a], features: -1}", "features"),
        ("{checkpoints: [a], words: 0}", "set one of them above 0"),
        ("{checkpoints: [a], captions_for: none}", "captions_for"),
    ],
)
def test_wrong_settings(settings, problem):
    with pytest.raises(ConfigError, match=rf"train\.teacher.*{problem}"):
        load_config(None, [f"train.teacher={settings}"])
