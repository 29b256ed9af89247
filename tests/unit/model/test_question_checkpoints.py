"""Test the question modules from configuration to checkpoint and back."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import make_checkpoint, make_text_encoder
from tiny_questions import QUESTIONS, SIZES, Grid, every_fusion, make_model, make_tokenizer
from torch import Tensor

from captioner.build import build_model, load_checkpoint
from captioner.config import QuestionConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.model.fusion import Add, Concat, CrossAttention, Graph, Linear, Multiply
from captioner.model.question_encoder import TextEncoder
from captioner.tokenizer import BOS, PAD, TextEncoderTokenizer, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_encoder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("concat", Concat),
        ("cross_attention", CrossAttention),
        ("graph", Graph),
        ("add", Add),
        ("multiply", Multiply),
        ("linear", Linear),
        ("linear of each", Linear),
    ],
)
def test_the_configuration_selects_the_question_modules(tokenizer, name, kind):
    question = dataclasses.replace(QUESTIONS[name], encoder_layers=3, fusion_layers=4, max_length=9)
    model = make_model(tokenizer, question)
    assert type(model.fusion) is kind
    assert len(getattr(model.fusion, "layers", [None] * 4)) == 4
    if kind is Linear:
        assert model.fusion.keeps_positions == name.endswith("each")
    assert len(model.question_encoder.layers) == 3
    assert model.question_encoder.embed_positions.num_embeddings == 9
    assert make_model(tokenizer, None).question_encoder is None


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_checkpoint_keeps_the_question_modules(tmp_path, name):
    saved = make_checkpoint(tmp_path / "one", question=QUESTIONS[name])
    model, tokenizer, config = load_checkpoint(saved)
    assert config.model.question == QUESTIONS[name]
    assert tokenizer.question_tokenizer is tokenizer
    again = load_checkpoint(make_checkpoint(tmp_path / "two", question=QUESTIONS[name]))[0]
    questions = torch.tensor([tokenizer.encode("a red dog"), tokenizer.encode("a red boat")])
    images, tokens = torch.randn(1, 3, 64, 64), torch.tensor([[[BOS, 7]], [[BOS, 8]]])
    owners = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        logits = [m(images, tokens, questions, owners) for m in (model, again)]
    assert torch.equal(*logits)
    assert not (saved / "text_encoder").exists()


@pytest.fixture(scope="module")
def text_encoder_checkpoint(text_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint with a Hugging Face text encoder whose own folder is then deleted."""
    folder = tmp_path_factory.mktemp("vqa")
    copy = shutil.copytree(text_encoder, folder / "elsewhere")
    make_checkpoint(folder / "best", question=QuestionConfig(encoder=str(copy), max_length=6))
    shutil.rmtree(copy)
    return folder / "best"


def test_a_text_encoder_is_loaded_with_weights_and_tokenizer(text_encoder, tokenizer):
    from transformers import AutoModel

    own = Tokenizer(tokenizer.model)
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, question=QuestionConfig(encoder=str(text_encoder)))
    model = build_model(sizes, Grid(), tokenizer=own, channels=6, positions=4)
    assert isinstance(model.question_encoder, TextEncoder)
    theirs = AutoModel.from_pretrained(text_encoder).state_dict()
    ours = model.question_encoder.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())
    # [CLS] what colour [SEP], with the padding of the encoder's own tokenizer.
    ids = own.question_tokenizer.encode("what colour")
    assert len(ids) == 4
    assert own.question_tokenizer.pad == model.pad != PAD
    assert own.encode("what colour") == tokenizer.encode("what colour")


def test_a_truncated_question_keeps_its_special_tokens(text_encoder):
    from transformers import AutoTokenizer

    found = TextEncoderTokenizer(AutoTokenizer.from_pretrained(text_encoder))
    whole = found.encode("what colour is it on the left")
    cut = found.encode("what colour is it on the left", max_length=5)
    assert len(whole) == 9
    assert cut == [*whole[:4], whole[-1]]


def test_a_checkpoint_contains_its_text_encoder(text_encoder_checkpoint):
    model, tokenizer, _ = load_checkpoint(text_encoder_checkpoint)
    expected = load_file(text_encoder_checkpoint / "model.safetensors")
    assert isinstance(model.question_encoder, TextEncoder)
    state = model.state_dict()
    names = [k for k in expected if k.startswith("question_encoder.model.")]
    assert names
    assert all(torch.equal(state[k], expected[k]) for k in names)
    ids = torch.tensor([tokenizer.question_tokenizer.encode("what colour")])
    owners, tokens = torch.zeros(1, dtype=torch.long), torch.tensor([[[BOS, 7]]])
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64), tokens, ids, owners)
        padded = F.pad(ids, (0, 2), value=tokenizer.question_tokenizer.pad)
        same = model(torch.randn(1, 3, 64, 64), tokens, padded, owners)
    assert logits.shape == same.shape
    assert not model.question_encoder.training
    for path in (text_encoder_checkpoint / "text_encoder").iterdir():
        assert "elsewhere" not in path.read_text(encoding="utf-8"), (
            path.name
        )  # a path on this machine


def load_file(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_a_saved_text_encoder_gives_the_same_answers(text_encoder, tmp_path):
    """The encoder's folder and the checkpoint give the same model."""
    from captioner.checkpoint.weights import save_best

    first = make_checkpoint(tmp_path / "one", question=QuestionConfig(encoder=str(text_encoder)))
    model, tokenizer, config = load_checkpoint(first, for_training=True)
    save_best(tmp_path / "two", config, tokenizer, model, {})
    again, other, _ = load_checkpoint(tmp_path / "two")
    text = "on which side is it"
    assert tokenizer.question_tokenizer.encode(text) == other.question_tokenizer.encode(text)
    ids, owners = (
        torch.tensor([other.question_tokenizer.encode(text)]),
        torch.zeros(1, dtype=torch.long),
    )
    images, tokens = torch.randn(1, 3, 64, 64), torch.tensor([[[BOS, 7]]])
    with torch.no_grad():
        features = again.backbone(images)  # differ from timm's by rounding
        assert torch.equal(*(m(features, tokens, ids, owners) for m in (model, again)))


def test_a_half_precision_text_encoder_becomes_float32(tmp_path, tokenizer):
    path = make_text_encoder(tmp_path / "half", dtype=torch.float16)
    own = Tokenizer(tokenizer.model)
    sizes = dataclasses.replace(SIZES, question=QuestionConfig(encoder=str(path)))
    model = build_model(sizes, Grid(), tokenizer=own, channels=6, positions=4).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    ids = torch.tensor([own.question_tokenizer.encode("what colour")])
    tokens, owners = torch.tensor([[[BOS, 7]]]), torch.zeros(1, dtype=torch.long)
    assert model(torch.randn(1, 3, 16, 16), tokens, ids, owners).dtype == torch.float32
    saved = make_checkpoint(tmp_path / "saved", question=QuestionConfig(encoder=str(path)))
    loaded, _, _ = load_checkpoint(saved)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nobody/no-such-encoder"])
def test_a_missing_text_encoder_is_a_one_line_error(tokenizer, name):
    with pytest.raises(ConfigError, match=r"model\.question\.encoder") as caught:
        make_model(tokenizer, QuestionConfig(encoder=name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_its_text_encoder_is_a_one_line_error(
    text_encoder_checkpoint, tmp_path
):
    copy = shutil.copytree(text_encoder_checkpoint, tmp_path / "torn")
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(CheckpointError, match="text_encoder") as caught:
        load_checkpoint(copy)
    assert "torn" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "bert"])
def test_transformers_is_imported_only_for_its_encoders(tmp_path, text_encoder_checkpoint, name):
    path = (
        text_encoder_checkpoint
        if name == "bert"
        else make_checkpoint(tmp_path, question=QuestionConfig())
    )
    code = (
        "import sys; from captioner.build import load_checkpoint;"
        f" load_checkpoint({str(path)!r}); print('transformers' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == str(name == "bert")


@every_fusion
def test_new_question_modules_are_added_to_a_captioner(tmp_path, question):
    start = make_checkpoint(tmp_path / "start")
    model, _, config = load_checkpoint(start, question=question)
    assert config.model.question == question
    plain, _, _ = load_checkpoint(start)
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in plain.state_dict().items())
    assert {k.split(".")[0] for k in state.keys() - plain.state_dict().keys()} == {
        "question_encoder",
        "fusion",
    }


def test_a_checkpoint_keeps_its_own_fusion(tmp_path):
    start = make_checkpoint(tmp_path / "start", question=QuestionConfig(fusion="add"))
    model, _, config = load_checkpoint(start, question=QuestionConfig(fusion="concat"))
    assert config.model.question.fusion == "add"
    assert type(model.fusion) is Add
