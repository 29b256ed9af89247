"""The arguments of `captioner scale`, and what it does without Ray."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

import pytest
from scale_inputs import make_tars

from captioner.cli import scale
from captioner.errors import CaptionerError
from captioner.scale.cluster_plan import Node
from captioner.scale.output_folder import OutputFolder
from captioner.scale.shard_worker import Record

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--question", "why?", "--question-column", "q"], "not both"),
        (["--answers", "yes,no"], "--answers needs a question"),
        (["--min-confidence", "0.5"], "--min-confidence needs a question"),
        (["--question", "why?", "--num-captions", "2"], "applies to captions only"),
        (["--question", "why?", "--max-length", "5"], "--beam-size only, not max_length"),
        (["--temperature", "2"], "needs --sample"),
        (["--no-images"], "needs --format webdataset"),
        (["--price-per-hour", "2"], "needs --dry-run"),
        (["--metrics-host", "0.0.0.0"], "needs --metrics-port"),
        (["--question", ""], "--question has no letter and no digit; ask in words"),
        (["--question", " ?"], "--question has no letter and no digit; ask in words"),
        (["--question-column", ""], "--question-column is empty"),
        (["--dry-run", "--price-per-hour", "-1"], "-1 is no price; expected a number of 0 or more"),
        (["--dry-run", "--price-per-hour", "nan"], "nan is no price"),
        (["--dry-run", "--price-per-hour", "x"], "invalid price value: 'x'"),
    ],
)
def test_options_that_do_not_fit_are_rejected(words, problem, capsys):
    with pytest.raises(SystemExit, match="2"):
        scale.parse(["in", "out", *words])
    assert problem in capsys.readouterr().err


def test_a_dry_run_prints_an_estimate_and_writes_nothing(vqa_checkpoint, tmp_path, capsys):
    make_tars(tmp_path / "in", 2, 5)
    words = ["in", "out", "--dry-run", "--price-per-hour", "2", "--workers", "3"]
    assert scale.main([*words, "--checkpoint", vqa_checkpoint]) == 0
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (lines["shards"], lines["images"], lines["workers"]) == ("2", "10", "3")
    assert float(lines["images per second and worker"]) > 0
    assert "cost" in lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
@pytest.mark.usefixtures("photos")
def test_inputs_that_do_not_fit_the_options_are_usage_errors(words, vqa_checkpoint, capsys):
    words = [*words, "--checkpoint", vqa_checkpoint]
    assert scale.main(["photos", "out", "--question-column", "q", *words]) == 2
    assert "photos: --question-column q: the images of a folder have no" in capsys.readouterr().err
    assert scale.main(["photos", "photos/out", "--recursive", *words]) == 2
    err = capsys.readouterr().err
    assert "photos/out: the output is in the input folder photos, which --recursive reads" in err
    assert len(err.splitlines()) == 1
    assert not os.path.exists("out")
    assert not os.path.exists("photos/out")


def test_a_second_run_on_one_folder_is_rejected_in_one_line(photos, vqa_checkpoint, capsys):
    with OutputFolder("out").locked():
        assert scale.main(["photos", "out", "--resume", "--checkpoint", vqa_checkpoint]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "out: another run writes to this folder; wait for its end, or give another" in err
    assert len(err.splitlines()) == 1


def test_without_ray_the_message_names_the_extra(photos, vqa_checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert scale.main(["photos", "out", "--checkpoint", vqa_checkpoint]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "captioner scale needs ray, which is not installed; run: pip install" in err
    assert not os.path.exists("out")


@pytest.fixture
def small_cluster(monkeypatch):
    """Replace Ray by a cluster of one machine with two CPUs."""
    session = lambda address, notify: nullcontext([Node(2)])  # noqa: E731
    monkeypatch.setattr("captioner.scale.driver.ray_session", session)


@pytest.mark.parametrize("words", [[], ["--resume"]])
@pytest.mark.usefixtures("small_cluster", "photos")
def test_a_run_that_cannot_be_scheduled_leaves_no_files(words, vqa_checkpoint, capsys):
    arguments = ["photos", "out", "--checkpoint", vqa_checkpoint, *words]
    assert scale.main([*arguments, "--workers", "999"]) == 1
    assert "--workers 999 with 1 thread each cannot be scheduled" in capsys.readouterr().err
    assert not os.path.exists("out")
    os.mkdir("out")
    assert scale.main([*arguments, "--workers", "999"]) == 1
    assert os.listdir("out") == []


@pytest.mark.usefixtures("small_cluster", "photos")
def test_a_run_with_records_keeps_its_files(vqa_checkpoint, monkeypatch):
    def fail(job, plan, units):
        yield Record(0, "photos", error="damaged")
        raise CaptionerError("Ray has failed")

    monkeypatch.setattr("captioner.scale.driver.run_pool", fail)
    arguments = ["photos", "out", "--checkpoint", vqa_checkpoint]
    assert scale.main(arguments) == 1
    names = ["inputs.jsonl", "manifest.jsonl", "parts", "run.json"]
    assert sorted(os.listdir("out")) == names
    assert scale.main([*arguments, "--workers", "999", "--resume"]) == 1
    assert sorted(os.listdir("out")) == names


def test_a_missing_input_or_checkpoint_is_one_line(photos, capsys):
    assert scale.main(["nothing", "out"]) == 1
    assert scale.main(["photos", "out", "--checkpoint", "none"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nothing: cannot be read" in lines[0]
