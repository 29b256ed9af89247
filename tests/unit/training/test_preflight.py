"""The checks before a run pass for a correct run and detect each injected fault."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch
from drawn_images import make_flickr, make_questions
from runs import sources, words_for

from captioner.cli import train
from captioner.data import collate as collating
from captioner.data.example_rows import read_rows
from captioner.model.transformer_decoder import TransformerDecoder
from captioner.tokenizer import EOS, PAD
from captioner.training import preflight

pytestmark = pytest.mark.slow


@pytest.fixture
def check(tmp_path, capsys):
    """Return a function that runs `train.py --check`: the checks that pass, and the failures."""

    def call(*words: str) -> tuple[list[str], list[str]]:
        data = None if any(w.startswith("data.sources") for w in words) else tmp_path / "data"
        if data and not data.exists():
            make_flickr(data)
        status = train.main([*words_for(data, tmp_path / "run", *words), "--check"])
        lines = capsys.readouterr().out.splitlines()
        report = [line for line in lines if line.startswith("data: ")]
        assert report == lines[: len(report)] != []
        lines = lines[len(report) :]
        passed = [line[6:].rpartition(": ")[0] for line in lines if line.startswith("ok    ")]
        failures = [line[8:] for line in lines if line.startswith("failed: ")]
        assert len(passed) + len(failures) == len(lines)
        assert status == bool(failures)
        return passed, failures

    return call


NAMES = ["pixels are normalized", "labels are one token ahead", "texts end in EOS",
         "the model overfits one batch", "the model generates the texts of the batch"]  # fmt: skip


def test_correct_run_passes_all_checks(check, tmp_path):
    passed, failures = check()
    assert passed == NAMES
    assert not failures
    assert not (tmp_path / "run").exists()


def test_pixels_that_are_not_normalized_are_detected(check):
    _, failures = check("image.mean=[0, 0, 0]", "image.std=[0.004, 0.004, 0.004]")
    assert failures[0].startswith("the pixels are not normalized (mean ")
    assert "), in " in failures[0]
    assert failures[0].endswith("/data; correct image.mean and image.std, or the images")


def test_labels_that_are_not_shifted_are_detected(check, monkeypatch):
    monkeypatch.setattr(collating, "decoder_input", lambda labels, pad=PAD: labels)
    _, failures = check()
    # The model learns to copy its input, which it does not have during generation.
    text = "\n".join(failures)
    assert "the labels are not one token ahead of the inputs" in text
    assert "the model does not generate the texts of the batch (" in text


def test_missing_eos_is_detected(check, monkeypatch):
    whole = preflight.collate_for

    def without(tokenizer):
        def collate(samples):
            batch = whole(tokenizer)(samples)
            labels = batch.labels.masked_fill(batch.labels == EOS, PAD)[..., :-1]
            return dataclasses.replace(batch, labels=labels, tokens=collating.decoder_input(labels))

        return collate

    monkeypatch.setattr(preflight, "collate_for", without)
    _, failures = check()
    assert any("not all texts end in EOS (0 of 4)" in line for line in failures)


def test_decoder_that_ignores_the_image_is_detected(check, monkeypatch):
    forward = TransformerDecoder.forward

    def blind(self, memory, tokens, mask=None):
        return forward(self, torch.zeros_like(memory), tokens, mask)

    monkeypatch.setattr(TransformerDecoder, "forward", blind)
    _, failures = check()
    assert failures


def test_every_data_set_is_checked(check, tmp_path):
    captions, questions = tmp_path / "captions", tmp_path / "questions"
    make_flickr(captions)
    make_questions(questions)
    both = sources({"root": str(captions)}, {"root": str(questions)})
    passed, failures = check(
        both, "model.question.fusion=concat", "model.question.encoder_layers=1"
    )
    assert passed == [f"{source}: {name}" for source in ("captions", "questions") for name in NAMES]
    assert not failures


def test_weights_of_texts_have_no_effect(check, tmp_path):
    folder = tmp_path / "data"
    make_flickr(folder)
    rows, _ = read_rows(folder)
    texts = [(row.image, text) for row in rows for text in row.references]
    lines = [
        {"image": image, "caption": text, "weight": weight}
        for (image, text), weight in zip(texts, itertools.cycle([1e-6, 1, 1e6]), strict=False)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    passed, failures = check(f"data.root={tmp_path / 'rows.jsonl'}")
    assert (passed, failures) == (NAMES, [])


@pytest.mark.parametrize("layer", ["gcn", "gat", "gatv2"])
def test_captions_and_answers_of_graph_layers_are_learned(check, tmp_path, layer):
    captions, questions = tmp_path / "captions", tmp_path / "questions"
    make_flickr(captions)
    make_questions(questions)
    passed, failures = check(
        sources({"root": str(captions)}, {"root": str(questions)}),
        f"model.graph={{layer: {layer}, heads: 2}}",
        f"model.question={{fusion: graph, graph_layer: {layer}, encoder_layers: 1}}",
    )
    assert len(passed) == 2 * len(NAMES)
    assert not failures
