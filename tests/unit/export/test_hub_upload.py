"""`captioner push`: what is uploaded to a server on this machine, and the model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from blocked import run_without
from hub_server import TOKEN, Hub, make_public_files, write_files
from tiny import make_checkpoint, picture

import captioner
from captioner.checkpoint import checkpoint_format, resolve_checkpoint
from captioner.cli.main import main
from captioner.config import load_config, save_config
from captioner.errors import CheckpointError
from captioner.export.card import wilson_interval
from captioner.export.published_files import collect_files, remove_local_paths

SCORES = {
    "flickr8k CIDEr-D": 0.5, "flickr8k CIDEr-D, other image": 0.1, "vqa exact match": 0.4,
    "score": 0.45, "flickr8k BLEU-4": float("nan"),
}  # fmt: skip
METRICS = {
    "val": SCORES,
    "classes": {"vqa": {"all": {"examples": 100}}},
    "intervals": {"flickr8k CIDEr-D": [0.45, 0.55]},
    "pruning": {"checkpoint": "/home/jo/runs/big"},
}
SETTINGS = [
    "data.root=/home/jo/flickr8k",
    "data.images=../pictures/",
    "train.output=C:\\runs\\mine",
    "train.cache=~/cache",
    "train.start=hf-hub:me/base@dev",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_checkpoint(tmp_path_factory.mktemp("push") / "best")
    save_config(load_config(folder / "config.yaml", SETTINGS), folder / "config.yaml")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "best"))


@pytest.fixture
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def read_card(text: str) -> tuple[dict, str]:
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


@pytest.mark.usefixtures("token")
def test_a_pushed_checkpoint_captions_like_the_folder(hub: Hub, folder, capsys):
    (folder / "image.onnx.tmp").write_bytes(b"")
    assert main(["push", str(folder), "me/tiny", "--private"]) == 0
    out, err = capsys.readouterr()
    repository = hub.repositories["me/tiny"]
    assert out == f"hf-hub:me/tiny@{repository.branches['main']}\n"
    assert err.startswith("captioner push: 6 files with ")
    assert repository.private
    names = {"README.md", "config.json", "config.yaml", "metrics.json", "model.safetensors"}
    assert set(repository.files) == {*names, "tokenizer.model", ".gitattributes"}
    assert json.loads(repository.files["config.json"])["model_type"] == "captioner"
    assert b"/home" not in b"".join(repository.files.values())
    (commit,) = hub.pushes
    assert commit["summary"].startswith("Upload a checkpoint with captioner ")
    path = resolve_checkpoint("hf-hub:me/tiny")
    assert checkpoint_format(path) == "captioner"
    images = [picture(i) for i in range(2)]
    expected = captioner.load(folder).caption(images)
    assert captioner.load("hf-hub:me/tiny").caption(images) == expected


@pytest.mark.usefixtures("token")
def test_a_second_push_to_a_branch_removes_stale_graphs(hub: Hub, folder):
    hub.add("me/tiny", {"image.onnx": b"old", "notes.md": b"", "model-1.safetensors": b""})
    words = ["push", str(folder), "me/tiny", "--revision", "dev/1", "--message", "Try dropout"]
    assert main(words) == 0
    repository = hub.repositories["me/tiny"]
    files = repository.commits[repository.branches["dev/1"]]
    assert {"image.onnx", "model-1.safetensors"}.isdisjoint(files)
    assert {"notes.md", "model.safetensors"} <= set(files)
    assert "image.onnx" in repository.files
    (commit,) = hub.pushes
    assert (commit["summary"], commit["branch"]) == ("Try dropout", "dev/1")


def test_a_dry_run_prints_the_card_and_the_files(folder, capsys, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    assert main(["push", str(folder), "me/tiny", "--dry-run", "--license", "mit"]) == 0
    card, files = capsys.readouterr().out.rsplit("\n\n", 1)
    sizes = {line.split()[2]: float(line.split()[0]) for line in files.splitlines()}
    assert len(sizes) == 6
    weights = (folder / "model.safetensors").stat().st_size
    assert sizes["model.safetensors"] == pytest.approx(weights / 1e6, abs=1e-3)
    header, body = read_card(card)
    assert header["library_name"] == "captioner"
    assert (header["pipeline_tag"], header["license"]) == ("image-to-text", "mit")
    assert (header["datasets"], header["base_model"]) == (["flickr8k"], "me/base")
    captions, answers = header["model-index"][0]["results"]
    assert captions["dataset"]["name"] == "flickr8k"
    (cider,) = captions["metrics"]
    assert (cider["type"], cider["value"]) == ("cider", 0.5)
    assert "95 % interval 0.450 to 0.550" in cider["name"]
    assert answers["metrics"][0]["type"] == "exact_match"
    titles = ("Use", "Data sets and recipe", "Scores", "Limits", "Provenance")
    assert [line[3:] for line in body.splitlines() if line.startswith("## ")] == list(titles)
    assert "captioner caption photo.jpg --checkpoint hf-hub:me/tiny" in body
    assert "| vqa | exact match | 0.400 | 0.309 to 0.498 |" in body
    assert "$" not in body


def test_a_card_of_the_folder_is_kept(folder, capsys):
    (folder / "README.md").write_text("---\nlicense: mit\n---\nmine\n")
    assert main(["push", str(folder), "me/tiny", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("---\nlicense: mit\n---\nmine\n")
    assert "its README.md is the model card" in err


@pytest.mark.parametrize("shards", [0, 2])
def test_a_transformers_folder_keeps_its_files(shards, tmp_path, capsys):
    files = make_public_files(shards=shards)
    config = json.loads(files["config.json"]) | {"_name_or_path": "/home/jo/blip"}
    extra = {"config.json": json.dumps(config).encode(), "training_args.bin": b""}
    write_files(tmp_path, files | extra | {"trainer_state.json": b"{}", "optimizer.pt": b""})
    assert main(["push", str(tmp_path), "me/blip", "--dry-run"]) == 0
    out = capsys.readouterr().out
    header, body = read_card(out.rsplit("\n\n", 1)[0])
    assert header["library_name"] == "transformers"
    assert "`blip`" in body
    collected = collect_files(tmp_path)
    assert {*collected.copies, *collected.texts} == set(files)
    assert json.loads(collected.texts["config.json"])["_name_or_path"] == "blip"


def damage(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", b"model: {wide: 3}", "wide"),
        ("config.yaml", None, "config.yaml"),
        ("model.safetensors", b"half", "cannot be read as safetensors"),
        ("model.safetensors", None, "no model.safetensors there"),
        ("tokenizer.model", b"", "tokenizer.model"),
        ("image.onnx", b"other digest", "belongs to other weights; run `captioner export"),
        ("metrics.json", b"{", "metrics.json: cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_not_uploaded(hub: Hub, folder, name, content, message, capsys):
    damage(folder, name, content)
    assert main(["push", str(folder), "me/tiny"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert hub.requests == []


def test_wrong_names_are_one_line(hub: Hub, folder, capsys):
    for words in ([str(folder), "tiny"], [str(folder), "me/tiny", "--revision", "a b"]):
        assert main(["push", *words]) == 1
        assert "is no re" in capsys.readouterr().err
    assert main(["push", "hf-hub:me/tiny", "me/other"]) == 1
    assert "is on the Hub already" in capsys.readouterr().err
    assert hub.requests == []


@pytest.mark.parametrize("flag", ["--license", "--revision", "--message"])
@pytest.mark.parametrize("value", ["", " "])
def test_empty_values_are_one_line(folder, flag, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["push", str(folder), "me/tiny", "--dry-run", flag, value])
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1].count(f"{flag} {value!r}: is empty")) == ("", 1)


def test_a_rejected_upload_is_one_line(hub: Hub, folder, capsys, monkeypatch):
    assert main(["push", str(folder), "me/tiny"]) == 1
    assert "log in with `hf auth login` or set HF_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.status = 403
    assert main(["push", str(folder), "me/tiny"]) == 1
    err = capsys.readouterr().err
    assert "access was denied (status 403)" in err
    assert hub.repositories == {}


def test_a_text_encoder_is_published_without_pickles(folder):
    files = {"config.json": b"{}", "vocab.txt": b"", "pytorch_model.bin": b""}
    write_files(folder / "text_encoder", files)
    collected = collect_files(folder)
    names = {*collected.copies, *collected.texts}
    assert {"text_encoder/config.json", "text_encoder/vocab.txt"} <= names
    assert not any(name.endswith(".bin") for name in names)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/data/coco", "coco"), ("/data/coco/", "coco"), ("~/coco", "coco"), ("..\\coco", "coco"),
     ("C:/data/coco", "coco"), ("../../coco.jsonl", "coco.jsonl"), ("/", "local"),
     ("runs/a", "runs/a"), ("coco", "coco"), ("hf-hub:a/b", "hf-hub:a/b"), ("...", "...")],
)  # fmt: skip
def test_paths_of_this_machine_are_shortened(path, expected):
    text = yaml.safe_dump({"data": {"sources": [{"root": path}]}, "decoding": {"prefix": path}})
    cleaned = yaml.safe_load(remove_local_paths(text, "config.yaml"))
    assert cleaned["data"]["sources"][0]["root"] == expected
    assert cleaned["decoding"]["prefix"] == path


def test_text_that_is_no_yaml_is_an_error():
    with pytest.raises(CheckpointError, match=r"config\.yaml: cannot be read"):
        remove_local_paths("a: [", "config.yaml")


def test_wilson_interval_against_the_published_example():
    """Newcombe (1998), table I, method 3: 81 of 263 successes."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.slow
def test_a_dry_run_needs_neither_torch_nor_the_client_of_the_hub():
    code = "from captioner.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    done = run_without(code, "push", "bundled", "me/tiny", "--dry-run")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "45.683 MB  model.safetensors" in done.stdout
