"""Questions and answers through the whole model: what may change an answer, and what may not."""

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
from torch import Tensor, nn

from captioner.build import build_model, load_checkpoint
from captioner.config import ModelConfig, QuestionConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.model.fusion import Add, Concat, CrossAttention, Linear, Multiply
from captioner.model.question import QuestionEncoder, TextEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, TextEncoderTokenizer, Tokenizer

SIZES = ModelConfig(width=12, heads=3, ffn=20, decoder_layers=2, max_length=8, dropout=0.0)
QUESTIONS = {
    "concat": QuestionConfig(fusion="concat"),
    "cross_attention": QuestionConfig(fusion="cross_attention"),
    "add": QuestionConfig(fusion="add"),
    "multiply": QuestionConfig(fusion="multiply"),
    "linear": QuestionConfig(fusion="linear"),
    "linear of each": QuestionConfig(fusion="linear", linear_memory="each"),
}
every_fusion = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
# Image 1 has no question, the others several, in no order.
OWNERS, LENGTHS, ANSWERS = (2, 0, 2, 0), (6, 2, 4, 1), (3, 1, 2, 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["what colour is it", "a red circle"] * 20, vocab_size=300)


class Grid(nn.Module):
    """A backbone of one convolution: 16 pixels to a 2 x 2 grid of 6 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, stride=8)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(pixels).flatten(2).transpose(1, 2)


@torch.no_grad()
def shake(module: nn.Module) -> None:
    """Leave no weight at a default, so that each matters."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.3)


def make_model(tokenizer: Tokenizer, question: QuestionConfig | None, **changes) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, question=question, **changes)
    model = build_model(sizes, Grid(), tokenizer=tokenizer, channels=6, positions=4)
    shake(model)
    return model.double().eval()


def make_images() -> Tensor:
    return torch.randn(3, 3, 16, 16, dtype=torch.float64)


def make_ids(lengths: tuple[int, ...], *, end: bool = True) -> Tensor:
    """Random ids (N, longest), padded behind the lengths."""
    ids = torch.randint(EOS + 1, 250, (len(lengths), max(lengths)))
    for row, n in zip(ids, lengths, strict=True):
        row[n - 1 :] = PAD
        row[n - 1] = EOS if end else BOS
    return ids


def make_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, decoder input of the answers (N, 1, T), questions (N, S), owners."""
    torch.manual_seed(1)
    answers = make_ids(ANSWERS).roll(1, -1)
    answers[:, 0] = BOS
    answers[torch.arange(answers.shape[1]) >= torch.tensor(ANSWERS)[:, None]] = PAD
    return make_images(), answers[:, None], make_ids(LENGTHS), torch.tensor(OWNERS)


def per_question(logits: Tensor) -> list[Tensor]:
    return list(logits.split(ANSWERS))


# Questions to states


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_encoder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(params=["shared", "bert"])
def encoder(request: pytest.FixtureRequest, text_encoder: Path, tokenizer: Tokenizer) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "shared":
        part = QuestionEncoder(width=12, heads=3, ffn=20, layers=2, max_length=10)
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
    """Ids that both kinds of encoder have, and the mask."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(4, 20, mask.shape).masked_fill(~mask, PAD), mask


def test_states_have_the_width_of_the_model(encoder, embedding):
    ids, mask = make_question_ids()
    assert encoder(ids, mask, embedding).shape == (4, 6, 12)


def test_what_is_padding_says_nothing(encoder, embedding):
    ids, mask = make_question_ids()
    before = encoder(ids, mask, embedding)[mask]
    other = torch.where(mask, ids, torch.randint(4, 20, ids.shape))
    other, longer = F.pad(other, (0, 3), value=7), F.pad(mask, (0, 3))
    torch.testing.assert_close(encoder(other, longer, embedding)[longer], before)


def test_a_question_among_others_is_as_alone(encoder, embedding):
    ids, mask = make_question_ids()
    together = encoder(ids, mask, embedding)
    for i, n in enumerate(LENGTHS):
        alone = encoder(ids[i : i + 1, :n], mask[i : i + 1, :n], embedding)
        torch.testing.assert_close(alone[0], together[i, :n])


def test_the_order_of_words_matters(encoder, embedding):
    ids = torch.tensor([[5, 6, 7]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    one, two = encoder(ids, mask, embedding), encoder(ids.flip(1), mask, embedding)
    assert not torch.allclose(one[:, 1], two[:, 1])  # the same word in the same place


def test_the_shared_encoder_reads_the_decoders_embedding(tokenizer):
    model = make_model(tokenizer, QuestionConfig())
    names = [name for name, _ in model.named_parameters() if "embed_tokens" in name]
    assert names == ["decoder.embed_tokens.weight"]
    memory = model.encode(make_images())
    _, _, questions, owners = make_inputs()
    fused, _ = model.fuse_questions(memory.detach(), questions, owners)
    (grad,) = torch.autograd.grad(fused.square().sum(), model.decoder.embed_tokens.weight)
    assert (grad.abs().sum(1) > 0)[questions.unique()[1:]].all()


# The whole model


@every_fusion
def test_an_answer_has_logits_at_each_of_its_tokens(tokenizer, question):
    logits = make_model(tokenizer, question)(*make_inputs())
    assert logits.shape == (sum(ANSWERS), len(tokenizer))


@every_fusion
def test_padding_of_questions_changes_no_answer(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    before = model(images, tokens, questions, owners)
    longer = F.pad(questions, (0, 3), value=PAD)
    torch.testing.assert_close(model(images, tokens, longer, owners), before)


@every_fusion
def test_an_answer_in_a_batch_is_as_alone(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    together = per_question(model(images, tokens, questions, owners))
    zero = torch.zeros(1, dtype=torch.long)
    for i, owner in enumerate(OWNERS):
        alone = model(
            images[owner][None], tokens[i : i + 1], questions[i : i + 1, : LENGTHS[i]], zero
        )
        torch.testing.assert_close(alone, together[i])


@every_fusion
def test_the_image_decides_on_the_answers_to_its_own_questions(tokenizer, question):
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
def test_the_question_decides_on_its_answer_alone(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    before = per_question(model(images, tokens, questions, owners))
    other = questions.clone()
    other[2, 1] = questions[2, 1] % 200 + EOS + 1
    after = per_question(model(images, tokens, other, owners))
    assert ((before[2] - after[2]).abs().amax(-1) > 1e-6).all()
    for i in (0, 1, 3):
        torch.testing.assert_close(before[i], after[i])


@every_fusion
def test_answers_teach_every_part_and_captions_their_own(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    logits = model(images, tokens, questions, owners)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("k_proj.bias"):  # which the softmax takes back
            continue
        # Over a memory of one token, attention is the same whatever is looked for.
        looked_for = ("encoder_attn.q", "encoder_attn.k", "encoder_attn_layer_norm")
        if question != QUESTIONS["linear"] or not any(part in name for part in looked_for):
            assert parameter.grad.abs().max() > 0, name
    model.zero_grad()
    model(images, make_ids((3, 4, 2), end=False)[:, None]).square().sum().backward()
    for name, parameter in model.named_parameters():
        asks = name.startswith(("question_encoder.", "fusion."))
        assert (parameter.grad is None) == asks, name


@every_fusion
def test_captions_are_those_of_the_model_without_questions(tokenizer, question):
    model, plain = make_model(tokenizer, question), make_model(tokenizer, None)
    own = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in own})
    images, tokens = make_images(), make_ids((3, 7, 1), end=False)[:, None]
    assert torch.equal(model(images, tokens), plain(images, tokens))
    assert torch.equal(model.encode(images), plain.encode(images))


@every_fusion
@torch.no_grad()
def test_blind_sees_no_pixel_and_no_feature(tokenizer, question):
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
def test_half_precision_stays_near(tokenizer, question):
    model, (images, tokens, questions, owners) = make_model(tokenizer, question), make_inputs()
    with torch.no_grad():
        expected = model(images, tokens, questions, owners)
        found = model.bfloat16()(images.bfloat16(), tokens, questions, owners)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).std() < 0.1 * expected.std()


# From configuration to parts, and to a checkpoint and back


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("concat", Concat),
        ("cross_attention", CrossAttention),
        ("add", Add),
        ("multiply", Multiply),
        ("linear", Linear),
        ("linear of each", Linear),
    ],
)
def test_the_configuration_names_the_parts(tokenizer, name, kind):
    question = dataclasses.replace(QUESTIONS[name], encoder_layers=3, fusion_layers=4, max_length=9)
    model = make_model(tokenizer, question)
    assert type(model.fusion) is kind
    assert len(getattr(model.fusion, "layers", [None] * 4)) == 4
    assert getattr(model.fusion, "each", name.endswith("each")) == name.endswith("each")
    assert len(model.question_encoder.layers) == 3
    assert model.question_encoder.embed_positions.num_embeddings == 9
    assert make_model(tokenizer, None).question_encoder is None


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_checkpoint_keeps_the_parts_for_questions(tmp_path, name):
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
def asking(text_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose questions a text encoder of Hugging Face reads, and that one is gone."""
    folder = tmp_path_factory.mktemp("asking")
    copy = shutil.copytree(text_encoder, folder / "elsewhere")
    make_checkpoint(folder / "best", question=QuestionConfig(encoder=str(copy), max_length=6))
    shutil.rmtree(copy)
    return folder / "best"


def test_a_text_encoder_comes_with_its_weights_and_tokenizer(text_encoder, tokenizer):
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
    # [CLS] what colour [SEP], and a padding that is not this project's.
    ids = own.question_tokenizer.encode("what colour")
    assert len(ids) == 4
    assert own.question_tokenizer.pad == model.pad != PAD
    assert own.encode("what colour") == tokenizer.encode("what colour")


def test_a_cut_question_keeps_its_special_tokens(text_encoder):
    from transformers import AutoTokenizer

    found = TextEncoderTokenizer(AutoTokenizer.from_pretrained(text_encoder))
    whole = found.encode("what colour is it on the left")
    cut = found.encode("what colour is it on the left", max_length=5)
    assert len(whole) == 9
    assert cut == [*whole[:4], whole[-1]]


def test_a_checkpoint_holds_all_of_its_text_encoder(asking):
    model, tokenizer, _ = load_checkpoint(asking)
    expected = load_file(asking / "model.safetensors")
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
    for path in (asking / "text_encoder").iterdir():
        assert "elsewhere" not in path.read_text(encoding="utf-8"), path.name  # this machine's


def load_file(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_a_saved_text_encoder_answers_as_before(text_encoder, tmp_path):
    """From the folder of the encoder and from the checkpoint: the same model."""
    from captioner.checkpoint import save_best

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
        features = again.backbone(images)  # a light twin's, nearly those of timm
        assert torch.equal(*(m(features, tokens, ids, owners) for m in (model, again)))


def test_a_text_encoder_of_half_precision_is_single_in_here(tmp_path, tokenizer):
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
def test_a_text_encoder_that_is_nowhere_is_one_line(tokenizer, name):
    with pytest.raises(ConfigError, match=r"model\.question\.encoder") as caught:
        make_model(tokenizer, QuestionConfig(encoder=name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_its_text_encoder_is_one_line(asking, tmp_path):
    copy = shutil.copytree(asking, tmp_path / "torn")
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(CheckpointError, match="text_encoder") as caught:
        load_checkpoint(copy)
    assert "torn" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "bert"])
def test_transformers_is_imported_for_its_own_encoders_only(tmp_path, asking, name):
    path = asking if name == "bert" else make_checkpoint(tmp_path, question=QuestionConfig())
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


# A captioner learns to answer


@every_fusion
def test_a_captioner_gets_new_parts(tmp_path, question):
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


def test_a_checkpoint_with_parts_keeps_them(tmp_path):
    start = make_checkpoint(tmp_path / "start", question=QuestionConfig(fusion="add"))
    model, _, config = load_checkpoint(start, question=QuestionConfig(fusion="concat"))
    assert config.model.question.fusion == "add"
    assert type(model.fusion) is Add
