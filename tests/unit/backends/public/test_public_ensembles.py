"""Ensembles of transformers models: tokens, mean probabilities, attention and errors."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from public_features import PROBES
from public_folders.blip import build_blip, build_blip_vqa
from public_folders.chat import (
    build_idefics3,
    build_qwen2_5_vl,
    build_qwen2_vl,
    build_smolvlm,
)
from public_folders.encoder_decoder import build_encoder_decoder
from public_folders.git import build_git
from public_folders.prompted import build_vilt
from public_tokens import PublicModel, assert_batch_equal, assert_scores_equal, random_images
from tiny import make_checkpoint

import captioner
from captioner import Captioner
from captioner.backends.public.family_settings import build_config
from captioner.cli import generate
from captioner.errors import CaptionerError, CheckpointError

BUILDERS: dict[str, Callable[..., None]] = {
    "blip": build_blip,
    "large blip": partial(build_blip, image=64),
    "vqa": build_blip_vqa,
    "git": build_git,
    "vilt": build_vilt,
    "bert": partial(build_encoder_decoder, decoder="bert"),
    "swin": partial(build_encoder_decoder, encoder="swin", decoder="bert"),
    "gpt2": build_encoder_decoder,
    "idefics": build_idefics3,
    "smolvlm": build_smolvlm,
    "qwen2": build_qwen2_vl,
    "qwen2.5": build_qwen2_5_vl,
}
CAPTIONERS = [
    ("blip 0", "blip 1"),
    ("blip 0", "large blip 1"),
    ("git 0", "git 1"),
    ("bert 0", "swin 1"),
    ("idefics 0", "smolvlm 1"),
]
ANSWERERS = [("vqa 0", "vqa 1"), ("git 0", "git 1"), ("qwen2 0", "qwen2.5 1")]
QUESTIONS = ["what color is the dog?", "is it a bus?", "where?"]
SEARCHES = [{"num_captions": 3}, {"beam_size": 1}, {"method": "sample", "seed": 3}]
TEXTS = ["a dog runs", "two cats sleep on a red couch", "red"]


class Folders:
    """Folders by family and seed, such as `blip 0`, which are built at their first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            family, _, seed = name.rpartition(" ")
            folder.mkdir()
            BUILDERS[family](folder, int(seed))
        return folder

    def write_settings(self, name: str, settings: dict[str, Any]) -> None:
        """Build the folder of a name that begins with `FAMILY SEED`, with generation settings."""
        source = " ".join(name.split()[:2])
        folder = shutil.copytree(self[source], self.root / name)
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    def load(self, *names: str) -> Captioner:
        return captioner.load([self[name] for name in names], device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


def softmax_steps(
    model: Captioner, memory: Any, tokens: Sequence[int], temperature: float
) -> np.ndarray:
    """Return the probabilities (T, V) of each step of a text, from a member's own logits."""
    state = model.backend.start([memory], rows=1, room=len(tokens), temperature=temperature)
    rows = []
    with torch.inference_mode():
        for token in [model.backend.bos, *tokens[:-1]]:
            logits = state.step(torch.tensor([[token]]))[0, 0].double()
            rows.append((logits - logits.max()).exp().numpy())
    return np.array([row / row.sum() for row in rows])


def mean_logprob(
    members: Sequence[Captioner], image: Any, text: str, question: str | None = None
) -> float:
    """Return the log-probability of a text in the mean of the members' probabilities."""
    tokens = members[0].tokenizer.encode(text)
    each = []
    for model in members:
        memory, temperature = model._memory(image, question)
        each.append(softmax_steps(model, memory, tokens, temperature))
    mean = np.mean(each, 0)
    return float(np.log(mean[np.arange(len(tokens)), tokens]).sum())


@pytest.mark.parametrize("name", ["blip 0", "git 0"])
def test_ensemble_of_equal_members_is_the_model(folders: Folders, name: str) -> None:
    assert_same_captions(folders, name)


@pytest.mark.parametrize("name", ["git 0", "bert 0"])
def test_rules_of_equal_members_are_those_of_the_model(folders: Folders, name: str) -> None:
    model = folders.load(name)
    tokens = [i for result in model.caption(random_images(3)) for i in result.best.tokens]
    likely = sorted(set(tokens) - set(model.backend.ends), key=tokens.count)[-2:]
    folders.write_settings(f"{name} rules", {"suppress_tokens": likely})
    assert_same_captions(folders, f"{name} rules")
    # In a greedy search, the penalty of one model is on logits, which an ensemble does not have.
    folders.write_settings(f"{name} penalty rules", {"repetition_penalty": 1.3})
    assert_same_captions(folders, f"{name} penalty rules", [{"num_captions": 3}])


def assert_same_captions(
    folders: Folders, name: str, searches: Sequence[dict[str, Any]] = SEARCHES
) -> None:
    """Compare a model with the ensemble of two copies of it."""
    one, twice, images = folders.load(name), folders.load(name, name), random_images(3)
    for options in searches:
        pairs = zip(one.caption(images, **options), twice.caption(images, **options), strict=True)
        for expected, actual in pairs:
            for a, b in zip(expected.captions, actual.captions, strict=True):
                assert a.tokens == b.tokens
                assert a.score == pytest.approx(b.score, abs=1e-4)


@pytest.mark.parametrize("names", CAPTIONERS, ids=str)
def test_scores_are_means_of_probabilities(folders: Folders, names: tuple[str, str]) -> None:
    both, members = folders.load(*names), [folders.load(name) for name in names]
    (image,) = random_images(1)
    expected = [mean_logprob(members, image, text) for text in TEXTS]
    actual = [scored.logprob for scored in both.score(image, TEXTS)]
    assert actual == pytest.approx(expected, abs=1e-3)
    for model in members:
        own = [scored.logprob for scored in model.score(image, TEXTS)]
        assert own != pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("names", ANSWERERS, ids=str)
def test_scores_of_answers_are_means(folders: Folders, names: tuple[str, str]) -> None:
    both, members = folders.load(*names), [folders.load(name) for name in names]
    (image,) = random_images(1)
    expected = [mean_logprob(members, image, text, QUESTIONS[0]) for text in TEXTS]
    actual = [scored.logprob for scored in both.score(image, TEXTS, question=QUESTIONS[0])]
    assert actual == pytest.approx(expected, abs=1e-3)


def test_classes_are_means(folders: Folders) -> None:
    names = ["vilt 0", "vilt 1"]
    both, members = folders.load(*names), [folders.load(name) for name in names]
    (image,) = random_images(1)
    texts = [both.tokenizer.decode(ids) for ids in both.backend.answers]
    each = [[s.logprob for s in m.score(image, texts, question="is it")] for m in members]
    actual = [scored.logprob for scored in both.score(image, texts, question="is it")]
    assert actual == pytest.approx(np.log(np.exp(each).mean(0)).tolist(), abs=1e-4)


@pytest.mark.parametrize("names", CAPTIONERS, ids=str)
def test_batch_and_search_of_captions(folders: Folders, names: tuple[str, str]) -> None:
    model: Any = PublicModel(folders.load(*names).backend)  # type: ignore[arg-type]
    images = random_images(4, sizes=[(48, 40), (90, 30)])
    assert_batch_equal(model, images)
    assert_scores_equal(model, images)


@pytest.mark.parametrize("names", ANSWERERS, ids=str)
def test_batch_and_search_of_answers(folders: Folders, names: tuple[str, str]) -> None:
    model: Any = PublicModel(folders.load(*names).backend)  # type: ignore[arg-type]
    images = random_images(3)
    assert_batch_equal(model, images, QUESTIONS)
    assert_scores_equal(model, images, QUESTIONS)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("blip 0", "blip 1"), {"questions", "closed answers"}),
        (("git 0", "git 1"), {"attention maps"}),
        (("vqa 0", "vqa 1"), {*PROBES} - {"questions", "closed answers"}),
        (("vilt 0", "vilt 1"), {*PROBES} - {"questions", "closed answers"}),
    ],
    ids=["blip", "git", "vqa", "vilt"],
)
def test_features_are_those_of_the_members(
    folders: Folders, names: tuple[str, str], missing: set[str]
) -> None:
    model, (image,) = folders.load(*names), random_images(1)
    for feature, probe in PROBES.items():
        if feature in missing:
            with pytest.raises(CaptionerError):
                probe(model, image)
        else:
            probe(model, image)


def test_lengths_are_those_that_all_members_support(folders: Folders) -> None:
    backend: Any = folders.load("git 0", "git 1").backend
    families = [member.family for member in backend.members]
    families[1].max_length, families[1].question_length = 9, 8
    config = build_config(*families)
    assert backend.max_length == config.model.max_length == config.decoding.max_length == 9
    assert config.answers.max_length == 9
    assert config.model.question is not None
    assert config.model.question.max_length == 8


@pytest.mark.parametrize("names", [CAPTIONERS[1], CAPTIONERS[3]], ids=str)
def test_attention_is_the_mean_of_the_members(folders: Folders, names: tuple[str, str]) -> None:
    both, members = folders.load(*names), [folders.load(name) for name in names]
    (image,) = random_images(1)
    maps = [model.attention(image, TEXTS[0]) for model in (both, *members)]
    for mean, *each in zip(*maps, strict=True):
        np.testing.assert_allclose(mean.weights, np.mean([x.weights for x in each], 0), atol=1e-6)


def test_file_objects_are_read_once(folders: Folders, tmp_path: Path) -> None:
    both, (image,) = folders.load("blip 0", "large blip 1"), random_images(1)
    image.save(tmp_path / "x.png")
    with open(tmp_path / "x.png", "rb") as file:
        (from_file,) = both.caption([file])
    assert from_file.best.tokens == both.caption([image])[0].best.tokens


def test_type_and_copies_of_each_member(folders: Folders) -> None:
    names = [folders["blip 0"], folders["blip 1"]]
    both, images = captioner.load(names, device="cpu", dtype="bfloat16"), random_images(1)
    assert {p.dtype for m in both.backend.models for p in m.parameters()} == {torch.bfloat16}
    (result,) = both.caption(images)
    assert result.error is None
    (copied,) = pickle.loads(pickle.dumps(both)).caption(images)
    assert copied.best.tokens == result.best.tokens


def test_command_line(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image,), path = random_images(1), tmp_path / "x.png"
    image.save(path)
    words = [str(path), "--device", "cpu"]
    for name in ("git 0", "git 1"):
        words += ["--checkpoint", str(folders[name])]
    both = folders.load("git 0", "git 1")
    assert generate.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [both.caption([path])[0].text]
    assert generate.main([*words, "--question", QUESTIONS[0]]) == 0
    assert both.ask(path, QUESTIONS[0]).best.text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("blip 0", "vqa 0"), "the task of the first is 'captions', of the second 'questions'"),
        (("blip 0", "git 0"), "the task of the first is 'captions', of the second 'captions and"),
        (("bert 0", "gpt2 0"), "the number of tokens of the first is "),
        (("bert 0", "blip 0"), "the number of tokens of the first is "),
    ],
    ids=str,
)
def test_members_that_differ(folders: Folders, names: tuple[str, str], difference: str) -> None:
    with pytest.raises(CheckpointError, match=difference) as caught:
        folders.load(*names)
    message = str(caught.value)
    assert "\n" not in message
    assert all(str(folders[name]) in message for name in names)


def test_members_with_other_settings(folders: Folders, tmp_path: Path) -> None:
    def expect(family: str, file: str, edit: Callable[[Any], Any], difference: str) -> None:
        folder = tmp_path / f"{family} {difference}"
        folder.mkdir()
        BUILDERS[family](folder, 1)
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(edit(content)))
        with pytest.raises(CheckpointError, match=difference):
            captioner.load([folders[f"{family} 0"], folder], device="cpu")

    def swap_tokens(content: Any) -> Any:
        ids = content["model"]["vocab"]
        ids["red"], ids["blue"] = ids["blue"], ids["red"]
        return content

    def keep_case(content: Any) -> Any:
        content["normalizer"]["lowercase"] = False
        return content

    expect(
        "git",
        "tokenizer.json",
        swap_tokens,
        "the token .* is ' blue', of the second ' red'",
    )
    expect("git", "tokenizer.json", keep_case, "the encoding of a test text at position 0 ")
    expect("git", "generation_config.json", lambda x: x | {"eos_token_id": 2}, "the end of a text")
    expect(
        "git",
        "generation_config.json",
        lambda x: x | {"suppress_tokens": [9]},
        "the set of generation rules",
    )
    renamed = {"0": "maybe"}
    expect(
        "vilt",
        "config.json",
        lambda x: x | {"id2label": x["id2label"] | renamed},
        "the answer 0",
    )


def test_own_and_public_checkpoints_are_no_ensemble(folders: Folders, tmp_path: Path) -> None:
    own, public = make_checkpoint(tmp_path / "best"), folders["blip 0"]
    for names in ([own, public], [public, own]):
        with pytest.raises(CheckpointError, match="of one kind") as caught:
            captioner.load(names)
        assert all(str(name) in str(caught.value) for name in names)
