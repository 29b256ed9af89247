"""Loss, parameter groups, schedule, moving average, rows, and what a run writes."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import SHAPES, draw, make_flickr, make_questions
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from runs import sources
from safetensors import SafetensorError
from tiny import Grid, make_text_encoder
from torch import nn

from captioner import checkpoint, files
from captioner.build import build_model, load_checkpoint
from captioner.checkpoint import save_best
from captioner.config import (
    Config,
    ImageConfig,
    ModelConfig,
    QuestionConfig,
    SourceConfig,
    StageConfig,
    TrainConfig,
    load_config,
)
from captioner.data.splits import hold_out, read_splits
from captioner.errors import CheckpointError, SplitError
from captioner.model.encoder import Backbones
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training import run_state
from captioner.training.ema import MovingAverage
from captioner.training.loss import caption_loss
from captioner.training.optimizer import build_optimizer, distances_to_output, set_learning_rate
from captioner.training.run_state import Progress, SavedState, gather_state, save_state
from captioner.training.signals import BadSteps, Diverged
from captioner.training.stage import start_stage

SIZES = ModelConfig(width=8, heads=2, ffn=16, decoder_layers=1, max_length=8, dropout=0.0)


def small_model(tokenizer: Tokenizer, seed: int = 0, **changes) -> Seq2Seq:
    torch.manual_seed(seed)
    sizes = dataclasses.replace(SIZES, **changes)
    return build_model(sizes, Grid(), tokenizer=tokenizer, channels=6, positions=4)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle", "a blue square"] * 20, vocab_size=300)


# Loss


@given(
    rows=st.integers(1, 9),
    vocab=st.integers(2, 9),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 99),
)
def test_the_loss_is_the_sum_over_tokens(rows, vocab, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocab, generator=generator)
    labels = torch.randint(vocab, (rows,), generator=generator)
    each = F.cross_entropy(logits, labels, reduction="none")
    # Smoothing mixes the label with an even spread over the vocabulary.
    even = -logits.log_softmax(-1).mean(-1)
    expected = ((1 - smoothing) * each + smoothing * even).sum()
    torch.testing.assert_close(caption_loss(logits, labels, smoothing=smoothing), expected)


def test_the_loss_of_half_precision_is_summed_in_single():
    logits = torch.randn(5000, 4, dtype=torch.bfloat16)
    labels = torch.zeros(5000, dtype=torch.long)
    loss = caption_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, caption_loss(logits.float(), labels))


# Optimiser


@pytest.mark.parametrize("encoder_lr", [0.0, 1e-5])
@pytest.mark.parametrize("question", [None, QuestionConfig()], ids=["captions", "questions"])
def test_every_trained_parameter_is_in_one_group(encoder_lr, question, tokenizer):
    model = small_model(tokenizer, question=question)
    stage = StageConfig(lr=1e-3, encoder_lr=encoder_lr)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.07), stage)
    names = {id(p): n for n, p in model.named_parameters()}
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(found))
    backbone = {i for i, n in names.items() if n.startswith("backbone.")}
    assert set(found) == set(names) - (set() if encoder_lr else backbone)
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = names[id(p)]
            assert group["peak"] == (encoder_lr if id(p) in backbone else 1e-3)
            decays = p.ndim > 1 and "positions" not in name
            assert group["weight_decay"] == (0.07 if decays else 0.0), name


def test_tables_do_not_decay(tokenizer, tmp_path):
    """Rows of positions, kinds and words: this project's, timm's and Hugging Face's."""
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
    assert id(model.decoder.embed_tokens.weight) in falling  # the logits' matrix, too


def test_blocks_further_from_the_end_of_a_backbone_learn_more_slowly(tokenizer):
    parts = [timm.create_model(n, num_classes=0) for n in ("test_efficientnet", "test_vit")]
    model = small_model(tokenizer)
    model.backbone = Backbones(parts)
    stage = StageConfig(lr=1e-3, encoder_lr=1e-4, encoder_decay=0.5)
    optimizer = build_optimizer(model, TrainConfig(), stage)
    rates = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert {r for n, r in found.items() if not n.startswith("backbone.")} == {1e-3}
    for i, part in enumerate(parts):
        own = [found[f"backbone.models.{i}.{name}"] for name, _ in part.named_parameters()]
        assert max(own) == 1e-4
        blocks = [
            {r for n, r in found.items() if n.startswith(f"backbone.models.{i}.blocks.{b}.")}
            for b in range(len(part.blocks))
        ]
        assert all(len(block) == 1 for block in blocks)
        for (before,), (after,) in itertools.pairwise(blocks):
            assert before == after / 2
        stem = "conv_stem.weight" if i == 0 else "patch_embed.proj.weight"
        assert found[f"backbone.models.{i}.{stem}"] == min(own) < min(blocks[0])


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
        # What is trained stands behind all that is not.
        assert needs == sorted(needs)
    assert all(id(p) in trained for p in model.decoder.parameters())


@given(
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.5),
    final=st.floats(0, 1),
)
def test_the_schedule_rises_then_falls_to_its_end(steps, warmup, final):
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


def test_the_cosine_is_half_way_in_the_middle():
    stage = StageConfig(lr=1.0, warmup=0.0, final_lr=0.2)
    optimizer = SimpleNamespace(param_groups=[{"peak": 1.0, "lr": None}])
    set_learning_rate(optimizer, stage, step=51, steps=101)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.6)


def test_groups_keep_their_proportion(tokenizer):
    stage = StageConfig(lr=1e-3, encoder_lr=1e-5)
    optimizer = build_optimizer(small_model(tokenizer), TrainConfig(), stage)
    set_learning_rate(optimizer, stage, step=30, steps=77)
    for group in optimizer.param_groups:
        assert group["lr"] / group["peak"] == pytest.approx(
            optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["peak"]
        )


# Moving average


def test_the_average_has_its_closed_form():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.5)
    expected = {k: v.detach().clone() for k, v in model.named_parameters()}
    for n in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape))
        average.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        for k, v in model.named_parameters():
            expected[k] = decay * expected[k] + (1 - decay) * v.detach()
    for k, v in expected.items():
        torch.testing.assert_close(average.state[k], v)


def test_within_the_block_the_model_is_the_average_and_after_it_itself():
    model = nn.Linear(3, 3)
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
    average.update(model)
    own, averaged = model.weight.detach().clone(), average.state["weight"].clone()
    pointer = model.weight.data_ptr()
    assert not torch.equal(own, averaged)

    def fail_inside():
        with average.applied(model):
            assert torch.equal(model.weight, averaged)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert torch.equal(model.weight, own)
    assert torch.equal(average.state["weight"], averaged)
    assert model.weight.data_ptr() == pointer


def test_frozen_weights_stay_and_reset_starts_from_the_present():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.9)
    model.bias.requires_grad_(False)
    before = average.state["bias"].clone()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    average.update(model)
    assert torch.equal(average.state["bias"], before)
    average.reset(model)
    assert average.updates == 0
    assert all(torch.equal(average.state[k], v) for k, v in model.named_parameters())
    with torch.no_grad():
        model.weight.add_(1)
    assert not torch.equal(average.state["weight"], model.weight)


def test_without_decay_there_is_no_average():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.0)
    own = model.weight.detach().clone()
    average.update(model)
    with average.applied(model):
        assert torch.equal(model.weight, own)
    assert average.state == {}


# What a run writes


@pytest.fixture
def trained(tokenizer, tmp_path):
    """A model after a few steps, channels last as in a run, and the state of that run on disk."""
    config = Config(train=TrainConfig(ema=0.9, output=str(tmp_path)))
    model = small_model(tokenizer).to(memory_format=torch.channels_last)
    stage = StageConfig(lr=1e-2, encoder_lr=1e-2)
    optimizer = build_optimizer(model, config.train, stage)
    average = MovingAverage(model, 0.9)
    advance(model, optimizer, average, steps=3)
    progress = Progress(stage=1, epoch=2, step=3, best=0.25, stale=1)
    parts = {"config": config, "tokenizer": tokenizer, "average": average}
    parts |= {"model": model, "optimizer": optimizer, "folder": tmp_path / "states"}
    found = SimpleNamespace(stage=stage, progress=progress, **parts)
    save_another(found, progress)
    return found


def advance(model, optimizer, average, *, steps: int) -> None:
    tokens = torch.tensor([[[2, 5, 6]], [[2, 7, 8]]])
    for i in range(steps):
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(i))
        model.eval()(images, tokens).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)


def test_a_restored_run_goes_on_bit_for_bit(trained, tokenizer):
    t = trained
    model = small_model(tokenizer, seed=1).to(memory_format=torch.channels_last)
    average = MovingAverage(model, 0.9)
    optimizer = build_optimizer(model, t.config.train, t.stage)
    saved = SavedState(t.folder, t.config, tokenizer, "rows")
    saved.restore_model(model, average)
    saved.restore_optimizer(model, optimizer)
    assert saved.progress == t.progress
    assert average.updates == t.average.updates == 3
    for _ in range(2):
        for (name, one), other in zip(
            model.state_dict().items(), t.model.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name
        assert all(torch.equal(average.state[k], v) for k, v in t.average.state.items())
        advance(model, optimizer, average, steps=2)
        advance(t.model, t.optimizer, t.average, steps=2)


def test_other_settings_are_refused_by_name(trained, tokenizer):
    other = Config(train=TrainConfig(ema=0.5, seed=3, output=trained.config.train.output))
    with pytest.raises(CheckpointError, match=r"train\.ema.*train\.seed"):
        SavedState(trained.folder, other, tokenizer, "rows")


def test_another_number_of_ranks_is_another_step(trained, tokenizer):
    with pytest.raises(CheckpointError, match=r"ranks"):
        SavedState(trained.folder, trained.config, tokenizer, "rows", ranks=2)


def save_another(trained, progress: Progress) -> None:
    tensors = gather_state(trained.model, trained.average, trained.optimizer)
    parts = {"config": trained.config, "tokenizer": trained.tokenizer, "data": "rows"}
    save_state(trained.folder, tensors, progress=progress, average=trained.average, **parts)


def newest(trained) -> SavedState:
    return SavedState(trained.folder, trained.config, trained.tokenizer, "rows")


def test_other_data_is_refused_unless_forced(trained):
    with pytest.raises(CheckpointError, match="images or texts"):
        SavedState(trained.folder, trained.config, trained.tokenizer, "other rows")
    found = SavedState(trained.folder, trained.config, trained.tokenizer, "other rows", force=True)
    assert found.progress == trained.progress


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_a_torn_state_is_passed_over(trained, name, damage):
    save_another(trained, later := Progress(stage=1, epoch=3))
    assert newest(trained).progress == later
    path = trained.folder / later.name / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut": content[:-10], "flipped": content}[damage])
    found = newest(trained)
    assert found.progress == trained.progress
    (told,) = found.damaged
    assert later.name in told
    assert name in told or name == "manifest.json"
    # With no whole one left, that is an error, and the torn ones are named.
    (trained.folder / trained.progress.name / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no state to resume from.*skipped"):
        newest(trained)


def test_another_tokenizer_is_refused_even_if_forced(trained):
    other = Tokenizer.train(["a red circle", "two blue squares"] * 20, vocab_size=301)
    with pytest.raises(CheckpointError, match="tokenizer was trained on other captions"):
        SavedState(trained.folder, trained.config, other, "rows", force=True)


def test_without_a_state_there_is_nothing_to_resume(trained, tmp_path):
    with pytest.raises(CheckpointError, match="nothing there"):
        SavedState(tmp_path / "none", trained.config, trained.tokenizer, "rows")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error")]
)
def test_a_write_that_fails_leaves_the_old_state(trained, monkeypatch, error):
    def full(tensors, path, metadata):
        path.write_bytes(b"a part of it")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        CheckpointError, match=r"cannot be written.*what was saved before is intact"
    ):
        save_another(trained, Progress(epoch=9))
    assert newest(trained).progress == trained.progress
    assert [p.name for p in trained.folder.iterdir()] == [trained.progress.name]


def test_too_little_room_is_told_before_anything_is_written(trained, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    monkeypatch.setattr(checkpoint, "save_file", lambda *args: pytest.fail("written"))
    with pytest.raises(CheckpointError, match=r"\d MB are needed and 1 MB free"):
        save_another(trained, Progress(epoch=9))
    assert newest(trained).progress == trained.progress


def test_the_last_few_states_are_kept(trained):
    times = [Progress(stage=1, epoch=e, batch=b) for e, b in ((2, 5), (2, 10), (3, 0), (10, 0))]
    for progress in times:
        save_another(trained, progress)
    names = sorted(p.name for p in trained.folder.iterdir())
    assert names == [progress.name for progress in times[-2:]]
    assert newest(trained).progress == times[-1]


def test_a_new_run_sets_the_states_of_another_aside(trained, tmp_path):
    run_state.set_aside(trained.folder)
    assert not trained.folder.exists()
    save_another(trained, Progress())
    assert newest(trained).progress == Progress()
    assert (
        SavedState(tmp_path / "states.old", trained.config, trained.tokenizer, "rows").progress
        == trained.progress
    )


@pytest.mark.parametrize("moment", ["sealed", "moved away"])
def test_a_stop_between_two_renamings_is_mended(tmp_path, monkeypatch, moment):
    folder, content = tmp_path / "best", "file"

    def write(text: str) -> None:
        with files.replace_folder(folder, 10) as partial:
            (partial / content).write_text(text)

    write("old")
    rename, done = Path.rename, []

    def stop(self, target):
        done.append(1)
        if len(done) == ("sealed", "moved away").index(moment) + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write("new")
    monkeypatch.undo()
    assert folder.exists() == (moment == "sealed")
    files.restore_folder(folder)
    assert (folder / content).read_text() == {"sealed": "old", "moved away": "new"}[moment]
    assert not files.find_damage(folder)
    write("newest")
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_steps_without_a_finite_gradient_are_counted_in_a_row():
    bad = BadSteps(3)
    found = [bad.is_bad(norm) for norm in (1.0, math.nan, math.inf, 2.0)]
    assert found == [False, True, True, False]
    assert [bad.is_bad(math.nan) for _ in range(2)] == [True, True]
    with pytest.raises(Diverged, match="3 steps"):
        bad.is_bad(math.nan)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_best_weights_come_back_rounded_to_their_type(dtype, tokenizer, tmp_path):
    model = small_model(tokenizer)
    config = Config(model=SIZES, train=TrainConfig(save_dtype=dtype), decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, model, {"val": {"CIDEr-D": 0.5}})
    other = small_model(tokenizer, seed=1)
    checkpoint.load_best(tmp_path / "best", other)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            rounded = value.to(getattr(torch, dtype)).float()
            assert torch.equal(other.state_dict()[name], rounded), name
    assert checkpoint.best_scores(tmp_path / "best") == {"CIDEr-D": 0.5}
    assert checkpoint.best_scores(tmp_path / "none") == {}


def _short():
    from captioner.config import DecodingConfig

    return DecodingConfig(max_length=8)


def test_weights_of_another_model_are_refused(tokenizer, tmp_path):
    config = Config(model=SIZES, decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, small_model(tokenizer), {})
    other = Tokenizer.train(["a red circle", "two blue squares"] * 20, vocab_size=301)
    assert len(other) != len(tokenizer)
    with pytest.raises(CheckpointError, match="shape"):
        checkpoint.load_best(tmp_path / "best", small_model(other))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model", "config.yaml"])
def test_a_checkpoint_with_a_part_missing_is_refused(name, tokenizer, tmp_path):
    config = Config(model=SIZES, image=ImageConfig(size=16), decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, small_model(tokenizer), {})
    (tmp_path / "best" / name).unlink()
    with pytest.raises(Exception, match=name) as caught:
        load_checkpoint(tmp_path / "best")
    assert type(caught.value).__module__ == "captioner.errors"


# Rows


def read(*words: str):
    return read_splits(load_config(None, words))


def asked_rows(*, images: int = 40, questions: int = 3, shuffled: int | None = None) -> Dataset:
    """Rows as a reader gives them: questions about images, in the order of the files or not."""
    rows = [
        {
            "image": f"/x/{i}.png",
            "image_id": f"{i}.png",
            "question": f"what is {j}",
            "question_id": f"{i}:{j}",
        }
        for i in range(images)
        for j in range(questions)
    ]
    if shuffled is not None:
        random.Random(shuffled).shuffle(rows)
    return Dataset.from_list(rows)


def part(rows: Dataset, seed: int = 0, **settings) -> tuple[list[dict], list[dict]]:
    source = SourceConfig("somewhere", val_share=0.25, **settings)
    return tuple(map(list, hold_out(rows, source, seed, SplitError("too few"))))


@pytest.mark.parametrize("seed", range(3))
def test_held_out_images_are_in_no_training_row(seed):
    rows = asked_rows()
    train, val = part(rows, seed)
    sides = [{row["image"] for row in side} for side in (train, val)]
    assert not sides[0] & sides[1]
    assert 4 <= len(sides[1]) <= 17  # ten on average
    assert sorted(row["question_id"] for row in train + val) == sorted(rows["question_id"])
    assert len(val) == 3 * len(sides[1])  # with all of their questions
    assert part(rows, seed) == (train, val)
    assert part(rows, seed + 1)[1] != val


def test_the_order_and_number_of_rows_hold_out_no_other_images():
    expected = {row["image"] for row in part(asked_rows())[1]}
    for rows in (asked_rows(shuffled=1), asked_rows(questions=1), asked_rows(questions=5)):
        assert {row["image"] for row in part(rows)[1]} == expected


def test_held_out_questions_leave_their_images_in_training():
    rows = asked_rows()
    train, val = part(rows, hold_out="question")
    sides = [{row["question_id"] for row in side} for side in (train, val)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(rows["question_id"])
    assert 18 <= len(sides[1]) <= 42  # thirty on average
    both = {row["image"] for row in train} & {row["image"] for row in val}
    assert len(both) > 10
    assert part(rows, hold_out="question") == (train, val)
    again = part(asked_rows(shuffled=2), hold_out="question")
    assert {row["question_id"] for row in again[1]} == sides[1]


def test_what_training_asks_of_a_picture_is_not_held_out():
    """Four times the same question about each of the pictures, and once another."""
    rows = [
        {
            **row,
            "question": "what" if j < 4 else "where",
            "question_id": f"{row['question_id']}:{j}",
        }
        for row in asked_rows(questions=1)
        for j in range(5)
    ]
    train, val = part(Dataset.from_list(rows), hold_out="question")
    asked = [{(row["image"], row["question"]) for row in side} for side in (train, val)]
    assert not asked[0] & asked[1]
    assert "where" in {row["question"] for row in val}
    # What cannot be validated on is no more trained on than before.
    assert 130 <= len(train) <= 170
    assert len(val) < len(rows) - len(train)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(asked_rows(images=1), "image"), (asked_rows(images=1, questions=1), "question")],
    ids=["image", "question"],
)
def test_too_few_to_hold_any_out(rows, kind):
    with pytest.raises(SplitError, match="too few"):
        part(rows, hold_out=kind)
    two = asked_rows(images=2, questions=1)
    assert [len(side) for side in part(two, hold_out=kind)] == [1, 1]


def test_rows_know_their_source_and_each_has_its_limit(tmp_path):
    captions = make_flickr(tmp_path / "captions", train=range(6))
    pictures = captions / "Flicker8k_Dataset"
    questions = make_questions(tmp_path / "questions", train=range(5), val=[5], pictures=pictures)
    first = {"root": str(captions), "limit": 4}
    second = {"root": str(questions), "val_splits": ["val"], "limit": 2}
    tasks, train, val, _ = read(sources(first, second))
    assert [(task.name, task.has_questions) for task in tasks] == [
        ("captions", False),
        ("questions", True),
    ]
    assert train["source"] == [0] * 4 + [1] * 6  # four images; two, with three questions each
    assert [bool(question) for question in train["question"]] == [False] * 4 + [True] * 6
    assert val["source"] == [0] * 4 + [1] * 3
    assert {Path(image).name for image in val["image"][4:]} == {"5.png"}
    assert set(train["image"][4:]) <= set(train["image"][:4])  # the same files, known as such
    _, train, val, _ = read(sources(first, second), "train.eval_images=1")
    assert [len(train), len(val)] == [10, 1 + 3]


def test_data_sets_of_the_same_name_stay_apart(tmp_path):
    roots = [make_questions(tmp_path / name / "data") for name in "ab"]
    tasks, *_ = read(sources(*({"root": str(root)} for root in roots)))
    assert len({task.name for task in tasks}) == 2


def test_captions_and_questions_made_of_them_hold_out_the_same_pictures(tmp_path):
    """An answer that is in a caption that was trained on is no test."""
    lines = []
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(tmp_path / f"{i}.png")
        # The captions of some give more questions than those of others, or none.
        captions = ["two brown dogs run on the green grass", "a man in a red shirt", "one too many"]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions[i % 3 :]}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    common = {"root": str(tmp_path), "val_splits": ["val"], "val_share": 0.34}
    tasks, train, val, report = read(sources(common, common | {"questions": True}))
    assert [task.has_questions for task in tasks] == [False, True]
    assert set(val["source"]) == set(train["source"]) == {0, 1}
    assert not set(train["image"]) & set(val["image"])
    assert len(set(val["image"])) >= 1
    assert "held out" in report.summary()
