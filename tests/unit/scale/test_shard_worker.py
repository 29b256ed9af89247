"""A worker without Ray: rows equal those of the Python API, and no problem is an exception."""

from __future__ import annotations

import json
import os

import pytest
from scale_inputs import make_parquet, make_tar, png, read_parts

import captioner
from captioner.errors import DataError
from captioner.scale.driver import RunOptions
from captioner.scale.output_folder import MOST_ATTEMPTS, OutputFolder
from captioner.scale.run_estimate import Estimate, estimate_run
from captioner.scale.shard_rows import Columns
from captioner.scale.shard_worker import Job, Record, ShardWorker
from captioner.scale.work_units import WorkUnit, find_units


@pytest.fixture
def out(tmp_path):
    OutputFolder(str(tmp_path / "out")).create()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def model(vqa_checkpoint):
    return captioner.load(vqa_checkpoint, device="cpu")


@pytest.fixture
def worker(vqa_checkpoint, out, model, monkeypatch):
    """Return a function that makes a worker with the options of a job."""
    monkeypatch.setattr("captioner.scale.shard_worker.load_model", lambda job: model)

    def make(**options):
        return ShardWorker(Job(str(out), (vqa_checkpoint,), batch_size=4, **options))

    return make


def process(worker, path):
    (unit,) = find_units(str(path), chunk=99)
    return worker.process(0, unit)


def test_captions_equal_those_of_the_api(worker, out, tmp_path, model):
    members = {f"{i}.png": png(i) for i in range(10)} | {"3.png": b"no image", "a.txt": b""}
    record = process(worker(num_captions=2), make_tar(tmp_path / "x.tar", members))
    assert (record.rows, record.errors, record.error) == (11, 2, "")
    rows = read_parts(out)
    assert [row["key"] for row in rows] == [*map(str, range(10)), "a"]
    images = [png(i) for i in range(10) if i != 3]
    expected = model.caption(images, num_captions=2, batch_size=4)
    valid = [row for row in rows if row["error"] is None]
    texts = [[caption["caption"] for caption in row["captions"]] for row in valid]
    assert texts == [[caption.text for caption in result.captions] for result in expected]
    assert [row["caption"] for row in valid] == [result.text for result in expected]
    assert [row["score"] for row in valid] == pytest.approx(
        [result.best.score for result in expected], abs=1e-3
    )
    assert rows[3]["error"].startswith("3.png: is")
    assert rows[-1]["error"] == "a: has no image among txt"


def test_answers_to_one_question_and_to_those_of_a_column(worker, out, tmp_path, model):
    rows = [{"image": png(i), "question": f"what is by the dog {i}?"} for i in range(6)]
    rows[2]["question"], rows[3]["question"], rows[4]["image"] = None, "", b""
    path = make_parquet(tmp_path / "x.parquet", rows)
    columns = Columns(question="question")
    record = process(worker(columns=columns, answering={"beam_size": 2}), path)
    assert (record.rows, record.errors) == (6, 3)
    found = read_parts(out)
    for i in (0, 1, 5):
        answer = model.ask(png(i), rows[i]["question"], beam_size=2)
        assert (found[i]["question"], found[i]["answer"]) == (rows[i]["question"], answer.text)
        assert found[i]["confidence"] == pytest.approx(answer.confidence, rel=1e-2)
    assert "has nothing under 'question'" in found[2]["error"]
    assert found[3]["error"]
    assert found[4]["error"]


def test_an_existing_part_is_kept_and_recorded(worker, out, tmp_path):
    path = make_tar(tmp_path / "x.tar", {"0.png": png(0), "1.png": b""})
    first = process(worker(), path)
    stamp = (out / "parts" / first.part).stat().st_mtime_ns
    second = process(worker(), path)
    assert (out / "parts" / first.part).stat().st_mtime_ns == stamp
    assert second.sha256 == first.sha256
    assert (second.rows, second.errors) == (2, 1)


def test_a_shard_that_cannot_be_read_is_a_record(worker, out, tmp_path):
    record = worker().process(5, WorkUnit("tar", str(tmp_path / "gone.tar"), ""))
    assert record.part is None
    assert record.error == f"{tmp_path}/gone.tar: cannot be read (No such file or directory)"
    assert not record.stops
    assert os.listdir(out / "parts") == []


def test_a_shard_that_kills_its_workers_is_given_up(worker, out, tmp_path):
    path = make_tar(tmp_path / "x.tar", {"0.png": png(0)})
    for i in range(MOST_ATTEMPTS):
        (out / "parts" / f".tmp-part-000000.parquet-{i}").touch()
    record = process(worker(), path)
    assert record.error == f"{path}: its worker has died {MOST_ATTEMPTS} times"


def test_an_invalid_option_stops_the_run(worker, tmp_path):
    path = make_tar(tmp_path / "x.tar", {"0.png": png(0)})
    record = process(worker(decoding={"max_length": 9999}), path)
    assert record.stops
    assert "max_length" in record.error


def test_a_model_that_cannot_be_loaded_stops_the_run(out, tmp_path):
    record = ShardWorker(Job(str(out), (str(tmp_path / "none"),))).process(
        0, WorkUnit("tar", "x.tar", "")
    )
    assert record.stops
    assert str(tmp_path / "none") in record.error


def test_an_unexpected_error_is_a_failed_shard(worker, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("captioner.scale.shard_worker.describe_rows", fail)
    path = make_tar(tmp_path / "x.tar", {"0.png": png(0)})
    record = process(worker(), path)
    assert record.error == f"{path}: RuntimeError: out of memory"
    assert not record.stops


def test_a_record_survives_json():
    record = Record(1, "x", "part", 2, 3, 4, "aa", 0.5)
    assert Record(**json.loads(json.dumps(vars(record)))) == record


def test_an_estimate_counts_the_images(worker, tmp_path, model, monkeypatch):
    monkeypatch.setattr("captioner.scale.run_estimate.load_model", lambda job: model)
    (tmp_path / "in").mkdir()
    for i in range(8):
        make_tar(tmp_path / "in" / f"{i}.tar", {f"{i}-{j}.png": png(j) for j in range(5)})
    options = RunOptions(str(tmp_path / "in"), workers=4)
    estimate = estimate_run(worker().job, options, sample=10)
    assert (estimate.shards, estimate.sample, estimate.errors) == (8, 10, 0)
    assert estimate.images == 40
    assert not estimate.is_exact
    assert (estimate.shards_read, estimate.unreadable) == (8, 0)


def test_an_estimate_counts_unreadable_shards(worker, tmp_path, model, monkeypatch):
    monkeypatch.setattr("captioner.scale.run_estimate.load_model", lambda job: model)
    (tmp_path / "in").mkdir()
    for i in range(3):
        make_tar(tmp_path / "in" / f"{i}.tar", {f"{j}.png": png(j) for j in range(5)})
    damaged = tmp_path / "in" / "1.tar"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    options = RunOptions(str(tmp_path / "in"))
    estimate = estimate_run(worker().job, options, sample=20)
    assert (estimate.images, estimate.is_exact) == (10, True)
    lines = dict(line.split("\t") for line in estimate.lines(None))
    assert lines["unreadable shards"] == "1 of 3 that were read"
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"no shard of the sample has rows: .*0\.tar: cannot be re"):
        estimate_run(worker().job, options)


def test_hours_and_cost_of_an_estimate():
    estimate = Estimate(10, 72_000, True, 2, 64, 1, 5.0)
    lines = dict(line.split("\t") for line in estimate.lines(3.0))
    assert estimate.hours == pytest.approx(2.0)
    assert lines["images"] == "72000"
    assert lines["cost"] == "12.00"
    assert "cost" not in dict(line.split("\t") for line in estimate.lines(None))
