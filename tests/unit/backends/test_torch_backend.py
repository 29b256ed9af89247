"""The torch backend: memories, wrapping of a model in training, the interface."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tiny import make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.backends.base import Backend, DecodingState
from captioner.backends.encoder_outputs import EncoderOutputs
from captioner.backends.torch_backend import TorchBackend, TorchDecodingState
from captioner.build import load_checkpoint
from captioner.tokenizer import BOS, EOS, PAD, SPECIAL, UNK


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> TorchBackend:
    return captioner.load(make_vqa_checkpoint(tmp_path_factory.mktemp("backend"))).backend


@pytest.mark.parametrize(
    ("protocol", "kind"), [(Backend, TorchBackend), (DecodingState, TorchDecodingState)]
)
def test_the_interface_is_implemented(backend, protocol, kind):
    names = [name for name in vars(protocol) if not name.startswith("_")]
    assert names
    for name in names:
        member = getattr(protocol, name)
        if isinstance(member, property):
            assert hasattr(backend, name)
        else:
            ours, theirs = (inspect.signature(f).parameters for f in (getattr(kind, name), member))
            assert list(ours) == list(theirs)


def test_memories_are_split_and_joined(backend):
    memories = backend.encode([backend.read(picture(i)) for i in range(3)])
    assert [len(memory.states[0]) for memory in memories] == [1, 1, 1]
    joined = EncoderOutputs.join(memories)
    assert joined.masks is None
    for one, other in zip(joined.split(), memories, strict=True):
        assert torch.equal(one.states[0], other.states[0])


@pytest.mark.parametrize("fusion", ["concat", "add"])
def test_question_memories_keep_their_masks(tmp_path, fusion):
    backend = captioner.load(make_vqa_checkpoint(tmp_path, fusion=fusion)).backend
    images = backend.encode([backend.read(picture(0))])
    ids = [backend.tokenizer.encode(text) for text in ("a dog", QUESTIONS[0])]
    memories = backend.encode_questions(images, ids, [0, 0])
    assert all(memory.masks is not None for memory in memories)
    masks = [memory.masks[0] for memory in memories]
    if fusion == "concat":
        padding = len(ids[1]) - len(ids[0])
        assert [(~mask).sum().item() for mask in masks] == [padding, 0]
        assert torch.equal(EncoderOutputs.join(memories).masks[0], torch.cat(masks))
    else:
        assert masks == [None, None]
        assert EncoderOutputs.join(memories).masks == (None,)


def test_a_model_in_training_is_wrapped_without_changes(tmp_path):
    model, _, config = load_checkpoint(make_checkpoint(tmp_path), for_training=True)
    before = {name: id(value) for name, value in model.named_parameters()}
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    assert backend.models == [model]
    assert {name: id(value) for name, value in model.named_parameters()} == before
    assert backend.max_length == config.model.max_length
    with pytest.raises(ValueError, match="tokenizer"):
        _ = backend.tokenizer


def test_special_tokens_are_never_generated(backend):
    assert list(range(*SPECIAL.indices(99))) == [PAD, UNK, BOS]
    state = backend.start(backend.encode([backend.read(picture(0))]), rows=1, room=2)
    with torch.inference_mode():
        logits = state.step(torch.tensor([[BOS]]))[0, 0]
    assert torch.isinf(logits[SPECIAL]).all()
    assert torch.isfinite(logits[EOS:]).all()


def test_scores_and_attention_are_numpy_arrays(backend):
    memories = backend.encode([backend.read(picture(0))])
    tokens = np.array([[backend.tokenizer.encode("a dog")]])
    scores = backend.score(memories, tokens)
    assert isinstance(scores, np.ndarray)
    assert scores.shape == tokens.shape
    (weights,) = backend.attention(memories, tokens)
    assert weights.shape == (*tokens.shape, memories[0].states[0].shape[1])
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
