"""Which files `captioner push` publishes, and what it reports about files it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_server import make_public_files, write_files

from captioner.cli.main import main
from captioner.errors import CheckpointError
from captioner.export.card import make_card
from captioner.export.published_files import collect_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "best", make_public_files())


def published(folder: Path) -> set[str]:
    files = collect_files(folder)
    return {*files.copies, *files.texts}


def test_private_files_are_not_published(folder: Path) -> None:
    secrets = (".env.json", "token.txt", "id_rsa.txt", ".model", "notes.jinja", ".a.onnx")
    write_files(folder, dict.fromkeys(secrets, b"secret"))
    (folder / "passwords.txt").symlink_to("/etc/passwd")
    kept = {
        "merges.txt", "chat_template.jinja", "qformer_tokenizer/vocab.txt",
        "additional_chat_templates/tools.jinja",
    }  # fmt: skip
    others = ("qformer_tokenizer/key.txt", "additional_chat_templates/.a.jinja", "sub/vocab.txt")
    write_files(folder, dict.fromkeys([*kept, *others], b""))
    assert published(folder) == {*make_public_files(), *kept}


@pytest.mark.parametrize("name", ["README.md", "vocab.txt", "metrics.json", "run.yaml"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../secret.json"])
def test_a_link_out_of_the_folder_is_an_error(folder: Path, name: str, target: str) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / name).symlink_to(target)
    with pytest.raises(CheckpointError, match=rf"{name}: is a link out of the folder; copy"):
        collect_files(folder)


def test_links_within_the_folder_and_into_the_cache_are_published(tmp_path: Path) -> None:
    blobs = write_files(tmp_path / "models--a--b" / "blobs", make_public_files())
    folder = tmp_path / "models--a--b" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    for path in blobs.iterdir():
        (folder / path.name).symlink_to(f"../../blobs/{path.name}")
    assert published(folder) == set(make_public_files())
    (folder / "vocab.txt").symlink_to("tokenizer.json")
    (tmp_path / "models--a--b" / "other").write_text("")
    (folder / "merges.txt").symlink_to("../../other")
    with pytest.raises(CheckpointError, match="is a link out"):
        collect_files(folder)


def test_json_files_have_no_paths_of_this_machine(folder: Path) -> None:
    content = {
        "name_or_path": "/home/jo/blip", "_name_or_path": "~/blip", "pad_token": "/",
        "added_tokens_decoder": {"1": {"content": "/a/b"}},
    }  # fmt: skip
    for name in ("tokenizer_config.json", "qformer_tokenizer/tokenizer_config.json"):
        write_files(folder, {name: json.dumps(content).encode()})
        cleaned = json.loads(collect_files(folder).texts[name])
        assert cleaned == content | {"name_or_path": "blip", "_name_or_path": "blip"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.yaml", b"", "run.yaml: holds a NoneType; expected a mapping"),
        ("run.yaml", b"[1]", "run.yaml: holds a list"),
        ("run.yaml", b"text", "run.yaml: holds a str"),
        ("run.yaml", b"train: {wide: 3}", "run.yaml: "),
        ("metrics.json", b'{"val": "x"}', "metrics.json: is not as training writes it"),
        ("metrics.json", b'{"data": [1]}', "metrics.json: is not as training writes it"),
        (
            "metrics.json",
            b'{"val": {"CIDEr-D": 1}, "intervals": {"CIDEr-D": ["a", 1]}}',
            "metrics.json: is not as training writes it",
        ),
        ("metrics.json", b"[]", "metrics.json: holds a list"),
        ("metrics.json", b"\xff", "metrics.json: cannot be read"),
        ("README.md", b"\xff", "README.md: cannot be read"),
        ("README.md", b"---\nlicense: [\n---\nmine\n", "README.md: its metadata is no YAML"),
        ("README.md", b"---\n- mit\n---\nmine\n", "README.md: its metadata is no mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    folder: Path, name: str, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(folder, {name: content})
    assert main(["push", str(folder), "me/blip", "--dry-run"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["BlipForConditionalGeneration"], "BlipForConditionalGeneration"),
     (["a b"], "AutoModelForImageTextToText"), (None, "AutoModelForImageTextToText")],
)  # fmt: skip
def test_the_card_names_what_a_transformers_model_needs(
    folder: Path, names: list[str] | None, expected: str
) -> None:
    config = {"model_type": "blip", "architectures": names}
    (folder / "config.json").write_text(json.dumps(config))
    card = make_card(collect_files(folder), "me/blip", "mit")
    assert 'pip install "captioner[train,hub]"' in card
    lines = f'from transformers import {expected}\nmodel = {expected}.from_pretrained("me/blip")\n'
    assert lines in card
    assert "$" not in card
