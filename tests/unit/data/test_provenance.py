"""The origins of captions that a model wrote."""

from __future__ import annotations

import json

from captioner.data.provenance import read_provenance

ORIGIN = {"rows": 0, "captioner": "1", "checkpoint": [{"name": "hf-hub:a/b", "revision": "c"}]}


def test_record_beside_the_rows(tmp_path):
    rows = tmp_path / "captions.jsonl"
    rows.write_text("{}\n")
    record = {"dtype": "float32", "origins": [ORIGIN], "base": [".", "/elsewhere"]}
    (tmp_path / "captions.jsonl.meta.json").write_text(json.dumps(record))
    expected = {"file": "captions.jsonl", "origins": [ORIGIN], "options": {"dtype": "float32"}}
    assert read_provenance([rows]) == [expected]
    assert read_provenance([tmp_path]) == [expected]
    rows.unlink()
    assert read_provenance([tmp_path]) == []


def test_rows_without_a_readable_record_have_no_origin(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert read_provenance([tmp_path, tmp_path / "a.jsonl", tmp_path / "missing"]) == []
    for text in ("[1]", "{", ""):
        (tmp_path / "a.jsonl.meta.json").write_text(text)
        assert read_provenance([tmp_path]) == []
