"""Test which inputs of the complete model affect the answer to a question."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import make_text_encoder
from tiny_questions import (
    ANSWERS,
    LENGTHS,
    OWNERS,
    QUESTIONS,
    every_fusion,
    make_ids,
    make_images,
    make_inputs,
    make_model,
    make_tokenizer,
    per_question,
    shake,
)
from torch import Tensor, nn

from captioner.config import QuestionConfig
from captioner.model.question_encoder import QuestionEncoder
from captioner.model.recurrent_encoder import RecurrentEncoder
from captioner.tokenizer import EOS, PAD, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_encoder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(params=["shared", "lstm", "gru", "bert"])
def encoder(request: pytest.FixtureRequest, text_encoder: Path, tokenizer: Tokenizer) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "shared":
        part = QuestionEncoder(width=12, heads=3, ffn=20, layers=2, max_length=10)
    elif request.param in ("lstm", "gru"):
        part = RecurrentEncoder(request.param, width=12, layers=2)
    else:
        question = QuestionConfig(encoder=str(text_encoder))
        other = Tokenizer(tokenizer.model)
        part = make_model(other, question).question_encoder
    shake(part)
    return part.double().eval()


@pytest.fixture
def embedding() -> nn.Embedding:
    return nn.Embedding(300, 12, padding_idx=PAD, dtype=torch.float64)


def make_question_ids() -> tuple[Tensor, Tensor]:
    """Return ids that both kinds of encoder have, and their mask."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(4, 20, mask.shape).masked_fill(~mask, PAD), mask


def test_question_states_have_the_model_width(encoder, embedding):
    ids, mask = make_question_ids()
    assert encoder(ids, mask, embedding).shape == (4, 6, 12)


def test_question_padding_does_not_change_states(encoder, embedding):
    ids, mask = make_question_ids()
    before = encoder(ids, mask, embedding)[mask]
    other = torch.where(mask, ids, torch.randint(4, 20, ids.shape))
    other, longer = F.pad(other, (0, 3), value=7), F.pad(mask, (0, 3))
    torch.testing.assert_close(encoder(other, longer, embedding)[longer], before)


def test_question_states_do_not_depend_on_the_batch(encoder, embedding):
    ids, mask = make_question_ids()
    together = encoder(ids, mask, embedding)
    for i, n in enumerate(LENGTHS):
        alone = encoder(ids[i : i + 1, :n], mask[i : i + 1, :n], embedding)
        torch.testing.assert_close(alone[0], together[i, :n])


def test_question_states_depend_on_the_order_of_words(encoder, embedding):
    ids = torch.tensor([[5, 6, 7]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    one, two = encoder(ids, mask, embedding), encoder(ids.flip(1), mask, embedding)
    assert not torch.allclose(one[:, 1], two[:, 1])  # the same word is at the same position


@pytest.mark.parametrize("name", ["shared", "lstm", "gru"])
def test_the_question_encoder_uses_the_decoder_embedding(tokenizer, name):
    model = make_model(tokenizer, QuestionConfig(encoder=name))
    names = [name for name, _ in model.named_parameters() if "embed_tokens" in name]
    assert names == ["decoder.embed_tokens.weight"]
    memory = model.encode(make_images())
    _, _, questions, owners = make_inputs()
    fused, _ = model.fuse_questions(memory.detach(), questions, owners)
    (grad,) = torch.autograd.grad(fused.square().sum(), model.decoder.embed_tokens.weight)
    assert (grad.abs().sum(1) > 0)[questions.unique()[1:]].all()


@every_fusion
def test_an_answer_has_logits_at_each_token(tokenizer, question):
    logits = make_model(tokenizer, question)(*make_inputs())
    assert logits.shape == (sum(ANSWERS), len(tokenizer))


@every_fusion
def test_question_padding_does_not_change_answers(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    before = model(images, tokens, questions, owners)
    longer = F.pad(questions, (0, 3), value=PAD)
    torch.testing.assert_close(model(images, tokens, longer, owners), before)


@every_fusion
def test_answers_do_not_depend_on_the_batch(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    together = per_question(model(images, tokens, questions, owners))
    zero = torch.zeros(1, dtype=torch.long)
    for i, owner in enumerate(OWNERS):
        alone = model(
            images[owner][None], tokens[i : i + 1], questions[i : i + 1, : LENGTHS[i]], zero
        )
        torch.testing.assert_close(alone, together[i])


@every_fusion
def test_an_image_affects_only_answers_about_it(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    before = per_question(model(images, tokens, questions, owners))
    other = images.clone()
    other[2] = torch.randn_like(images[2])
    after = per_question(model(other, tokens, questions, owners))
    for owner, one, two in zip(OWNERS, before, after, strict=True):
        if owner == 2:
            assert ((one - two).abs().amax(-1) > 1e-6).all()
        else:
            torch.testing.assert_close(one, two)


@every_fusion
def test_a_question_affects_only_its_answer(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    before = per_question(model(images, tokens, questions, owners))
    other = questions.clone()
    other[2, 1] = questions[2, 1] % 200 + EOS + 1
    after = per_question(model(images, tokens, other, owners))
    assert ((before[2] - after[2]).abs().amax(-1) > 1e-6).all()
    for i in (0, 1, 3):
        torch.testing.assert_close(before[i], after[i])


@every_fusion
def test_gradients_of_answers_and_captions_reach_their_modules(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    logits = model(images, tokens, questions, owners)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("k_proj.bias"):  # the softmax cancels it
            continue
        # Attention to a memory of one token does not depend on the query.
        looked_for = ("encoder_attn.q", "encoder_attn.k", "encoder_attn_layer_norm")
        if question != QUESTIONS["linear"] or not any(part in name for part in looked_for):
            assert parameter.grad.abs().max() > 0, name
    model.zero_grad()
    model(images, make_ids((3, 4, 2), end=False)[:, None]).square().sum().backward()
    for name, parameter in model.named_parameters():
        asks = name.startswith(("question_encoder.", "fusion."))
        assert (parameter.grad is None) == asks, name


@every_fusion
def test_captions_do_not_use_the_question_modules(tokenizer, question):
    model, plain = make_model(tokenizer, question), make_model(tokenizer, None)
    own = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in own})
    images, tokens = make_images(), make_ids((3, 7, 1), end=False)[:, None]
    assert torch.equal(model(images, tokens), plain(images, tokens))
    assert torch.equal(model.encode(images), plain.encode(images))


@every_fusion
@torch.no_grad()
def test_a_blind_model_ignores_pixels_and_features(tokenizer, question):
    model = make_model(tokenizer, question, blind=True)
    images, tokens, questions, owners = make_inputs()
    answers = model(images, tokens, questions, owners)
    captions = model(images, tokens[:3])
    for other in (make_images(), torch.zeros_like(images), torch.randn(3, 4, 6).double()):
        assert torch.equal(model(other, tokens, questions, owners), answers)
        assert torch.equal(model(other, tokens[:3]), captions)
    other = questions.clone()
    other[:, 0] = questions[:, 0] % 200 + EOS + 1
    assert not torch.allclose(model(images, tokens, other, owners), answers)
    seeing = make_model(tokenizer, question)
    assert not torch.equal(seeing(images, tokens, questions, owners), answers)
    zeros = torch.zeros(3, 4, 6, dtype=torch.float64)
    assert torch.equal(seeing(zeros, tokens, questions, owners), answers)


@every_fusion
def test_half_precision_is_close_to_float32(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    with torch.no_grad():
        expected = model(images, tokens, questions, owners)
        found = model.bfloat16()(images.bfloat16(), tokens, questions, owners)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).std() < 0.1 * expected.std()
