"""Output and exit status of generate.py."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_checkpoint, picture

from captioner.checkpoint import PRETRAINED
from captioner.cli import generate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


def process(*words: str | bytes, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "generate.py", *words],
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        **options,
    )


def test_one_image_prints_its_caption_alone(run, photos):
    status, out, err = run(photos / "0.png")
    assert (status, len(out), err) == (0, 1, "")
    assert out[0].strip()
    assert "\t" not in out[0]


def test_several_images_print_path_and_caption(run, photos):
    paths = [str(photos / name) for name in ("2.png", "0.png", "2.png")]
    status, out, err = run(*paths)
    assert (status, err) == (0, "")
    rows = [line.split("\t") for line in out]
    assert [row[0] for row in rows] == paths
    alone = [run(path)[1][0] for path in paths]
    assert [row[1] for row in rows] == alone
    assert alone[0] != alone[1]


def test_images_of_a_folder_are_sorted_by_name(run, photos):
    (photos / "notes.txt").write_text("no picture")
    (photos / "inner").mkdir()
    picture(9).save(photos / "UPPER.JPG")
    status, out, _ = run(photos)
    names = [Path(line.split("\t")[0]).name for line in out]
    assert (status, names) == (0, ["0.png", "1.png", "2.png", "UPPER.JPG"])


def test_a_folder_with_one_image_prints_the_caption_alone(run, tmp_path):
    picture(0).save(tmp_path / "only.png")
    assert "\t" not in run(tmp_path)[1][0]


def test_a_glob_is_expanded_unless_a_file_has_its_name(run, photos):
    assert len(run(photos / "[01].png")[1]) == 2
    assert len(run(photos.parent / "**" / "*.png")[1]) == 3
    picture(5).save(photos / "[01].png")
    assert run(photos / "[01].png")[1] == run(photos / "[[]01].png")[1]
    assert len(run(photos / "[01].png")[1]) == 1


def test_stdin(run, photos, monkeypatch):
    data = (photos / "1.png").read_bytes()
    expected = run(photos / "1.png")[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("-") == (0, expected, "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    _, out, _ = run("-", photos / "0.png")
    assert out[0] == f"-\t{expected[0]}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    status, out, err = run("-")
    assert (status, out) == (1, [])
    assert err.count("\n") == 1


def test_jsonl(run, photos):
    status, out, _ = run(photos, "--jsonl")
    rows = [json.loads(line) for line in out]
    assert status == 0
    assert all(row.keys() == {"image", "caption", "score", "confidence"} for row in rows)
    assert all(row["score"] < 0 for row in rows)
    plain = [line.split("\t") for line in run(photos)[1]]
    assert [[row["image"], row["caption"]] for row in rows] == plain


def test_jsonl_with_several_captions(run, photos):
    _, out, _ = run(photos / "0.png", "--jsonl", "--num-captions", 2)
    row = json.loads(out[0])
    assert len(out) == 1
    assert row["captions"][0] == {key: row[key] for key in ("caption", "score", "confidence")}
    assert all(0 < c["confidence"] < 1 for c in row["captions"])
    assert len({c["caption"] for c in row["captions"]}) == 2


@pytest.mark.parametrize(("count", "beams"), [(1, 1), (2, 2), (4, 1), (5, 6)])
def test_num_captions_raises_the_beam_size(run, photos, count, beams):
    status, out, _ = run(photos / "0.png", "--num-captions", count, "--beam-size", beams)
    assert (status, len(out), len(set(out))) == (0, count, count)
    _, out, _ = run(photos, "--num-captions", count, "--beam-size", beams)
    assert [line.split("\t")[0] for line in out[::count]] == sorted(map(str, photos.iterdir()))


def test_batch_size_does_not_change_the_output(run, photos):
    assert run(photos, "--batch-size", 1) == run(photos, "--batch-size", 2) == run(photos)


def test_failures_are_reported_and_the_rest_is_captioned(run, photos):
    (photos / "bad.png").write_bytes(b"no picture")
    missing = photos / "missing.png"
    status, out, err = run(photos, missing)
    assert (status, len(out)) == (3, 3)
    assert [name in err for name in ("bad.png", "missing.png", "0.png")] == [True, True, False]
    status, out, err = run(photos / "bad.png", missing)
    assert (status, out, err.count("\n")) == (1, [], 2)
    assert "Traceback" not in err


def test_failures_in_jsonl(run, photos):
    missing = str(photos / "missing.png")
    status, out, _ = run(missing, photos / "0.png", "--jsonl")
    rows = [json.loads(line) for line in out]
    assert status == 3
    assert rows[0].keys() == {"image", "error"}
    assert rows[0]["image"] == missing
    assert "missing.png" in rows[0]["error"]
    assert "caption" in rows[1]


def test_empty_folder_and_glob_without_match_fail(run, tmp_path):
    assert run(tmp_path)[0] == 1
    assert run(tmp_path / "*.png")[0] == 1


def test_an_input_without_images_is_reported_with_its_reason(run, photos):
    outer = photos / "outer"
    (outer / "inner").mkdir(parents=True)
    picture(5).save(outer / "inner" / "a.png")
    for words in ((), ("--jsonl",), ("--score", "a dog"), ("--attention", photos / "sheets")):
        status, _, err = run(outer, photos / "none[0-9].png", *words)
        assert (status, err.count("\n")) == (1, 2)
        assert f"{outer}: has no images, but 1 folder; --recursive looks into them" in err
        assert f"{photos / 'none[0-9].png'}: matches no file" in err
    assert run(outer, "--recursive")[0] == 0


def test_skipped_files_of_a_folder_are_reported_in_one_line(run, photos):
    for name in ("notes.txt", "a.psd", "0.txt", "0.attention.png"):
        (photos / name).write_text("no picture")
    status, out, err = run(photos)
    assert (status, len(out), err.count("\n")) == (0, 3, 1)
    skipped = f"skipped 2 files with other suffixes ({photos / 'a.psd'}, {photos / 'notes.txt'})"
    assert err == f"generate.py: {skipped}\n"


@pytest.mark.parametrize("name", ["new\nline.png", "tab\tand\rreturn.png", "emoji 🏖️ é.png"])
def test_line_breaks_and_tabs_in_names_are_escaped(run, photos, name):
    picture(7).save(photos / name)
    status, out, _ = run(photos / name, photos / "0.png")
    assert (status, len(out)) == (0, 2)
    shown, caption = out[0].split("\t")
    assert shown.endswith(name.translate({10: "\\n", 13: "\\r", 9: "\\t"}))
    assert caption
    _, out, _ = run(photos / name, photos / "0.png", "--jsonl")
    assert json.loads(out[0])["image"] == str(photos / name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_names_that_are_not_utf8(checkpoint, photos):
    name = os.path.join(os.fsencode(photos), b"caf\xe9.png")
    os.rename(photos / "0.png", name)
    common = ["--checkpoint", checkpoint]
    for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = process(os.fsencode(photos), *common, env=os.environ | locale)
        assert done.returncode == 0, done.stderr
        assert b"caf\\xe9.png\t" in done.stdout
    done = process(name, "missing\udce9.png", "--jsonl", *common)
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert done.returncode == 3
    assert rows[0]["image"].endswith("caf\\xe9.png")
    assert "missing" in rows[1]["error"]


@pytest.mark.slow
def test_closed_pipe_ends_quietly(checkpoint, photos):
    # With buffering, the lines are written when the process ends; without, one by one.
    for unbuffered in ("", "1"):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, ROOT / "generate.py", photos, "--checkpoint", checkpoint],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=120,
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("a.png", "--beam-size", "0"),
        ("a.png", "--batch-size", "x"),
        ("a.png", "--num-captions", "-1"),
        ("a.png", "--dtype", "int4"),
        ("a.png", "--tta", "3"),
        ("a.png", "--no-such-option"),
    ],
)
def test_usage_errors(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        generate.main(list(words))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoint", "no-such-folder"), "no-such-folder"),
        (("--device", "no-such-device"), "no-such-device"),
    ],
)
def test_a_wrong_checkpoint_or_device_is_a_one_line_error(
    checkpoint, photos, capsys, words, message
):
    status = generate.main([str(photos), "--checkpoint", checkpoint, *words])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_help_does_not_import_torch():
    code = (
        "import sys, generate\n"
        "try: generate.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'timm', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--num-captions" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    not (PRETRAINED / "model.safetensors").exists(), reason="there is no bundled checkpoint yet"
)
def test_bundled_checkpoint_captions_without_timm_or_network(photos):
    example = ROOT / "examples" / "beach.jpg"
    path = example if example.exists() else photos / "0.png"
    code = (
        f"import sys, generate; status = generate.main([{str(path)!r}]);"
        "heavy = {'timm', 'transformers', 'datasets', 'torchvision'} & set(sys.modules);"
        "sys.exit(status or ' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 2
