"""The arguments of `captioner scale`, and what it does without Ray."""

from __future__ import annotations

import sys

import pytest
from scale_inputs import make_tars

from captioner.cli import scale
from captioner.scale.output_folder import OutputFolder

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


def test_a_missing_input_or_checkpoint_is_one_line(photos, capsys):
    assert scale.main(["nothing", "out"]) == 1
    assert scale.main(["photos", "out", "--checkpoint", "none"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nothing: cannot be read" in lines[0]
