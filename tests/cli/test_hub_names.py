"""Commands with a checkpoint of the Hugging Face Hub, and the origin of rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub
from tiny import make_checkpoint, picture

from captioner import __version__
from captioner.cli import generate
from captioner.cli.main import main
from captioner.cli.score_args import is_checkpoint

pytestmark = pytest.mark.usefixtures("working_folder")
META = Path("out.jsonl.meta.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("names") / "best")


def run(*words: object) -> int:
    return main(["caption", "photos", "--output", "out.jsonl", *map(str, words)])


def read_origins() -> list[dict[str, Any]]:
    """Return the origins of the rows, without their dates."""
    origins = json.loads(META.read_text())["origins"]
    return [{k: v for k, v in origin.items() if k != "date" or not v} for origin in origins]


def test_rows_name_the_model_its_revision_and_the_version(hub: Hub, folder, photos, monkeypatch):
    commit = hub.add("me/tiny", folder).branches["main"]
    assert run("--checkpoint", "hf-hub:me/tiny") == 0
    first = {"rows": 0, "captioner": __version__}
    first["checkpoint"] = [{"name": "hf-hub:me/tiny", "revision": commit}]
    assert read_origins() == [first]
    rows = Path("out.jsonl").read_bytes()
    before = META.read_bytes()
    assert run("--checkpoint", "hf-hub:me/tiny", "--resume") == 0
    assert META.read_bytes() == before, "nothing has changed"
    # The same content under another name and with another version of the package continues.
    picture(5).save(photos / "5.png")
    monkeypatch.setattr("captioner.__version__", "9.0")
    assert run("--checkpoint", folder, "--resume") == 0
    assert Path("out.jsonl").read_bytes().startswith(rows)
    second = {"rows": 3, "captioner": "9.0"}
    second["checkpoint"] = [{"name": str(folder), "revision": None}]
    assert read_origins() == [first, second]


def test_other_weights_do_not_continue_the_rows(hub: Hub, folder, photos, tmp_path, capsys):
    repository = hub.add("me/tiny", folder)
    assert run("--checkpoint", "hf-hub:me/tiny") == 0
    config = (folder / "config.yaml").read_bytes()
    repository.commit({"config.yaml": config + b"# changed\n"})
    old, new = (f"hf-hub:me/tiny@{commit}" for commit in repository.commits)
    capsys.readouterr()
    assert run("--checkpoint", "hf-hub:me/tiny", "--resume") == 1
    message = f"its rows were made with the checkpoint {old}, not {new}; give the same options"
    assert message in capsys.readouterr().err


def test_a_changed_folder_and_an_unknown_checkpoint_do_not_continue(
    folder, photos, tmp_path, capsys
):
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert run("--checkpoint", copied) == 0
    capsys.readouterr()
    with open(copied / "config.yaml", "a") as file:
        file.write("# changed\n")
    assert run("--checkpoint", copied, "--resume") == 1
    message = f"its rows were made with an earlier content of the checkpoint {copied};"
    assert message in capsys.readouterr().err
    meta = json.loads(META.read_text())
    del meta["origins"]
    META.write_text(json.dumps(meta))
    assert run("--checkpoint", copied, "--resume") == 1
    assert "its rows were made with another checkpoint; give" in capsys.readouterr().err


def test_rows_of_earlier_versions_can_be_continued(folder, photos):
    assert run("--checkpoint", folder) == 0
    meta = json.loads(META.read_text())
    del meta["origins"]
    META.write_text(json.dumps(meta))
    assert run("--checkpoint", folder, "--resume") == 0
    (origin,) = json.loads(META.read_text())["origins"]
    assert origin["rows"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["caption", "photos/0.png", "--checkpoint"],
        ["export"],
        ["score", "--references", "x.jsonl", "--checkpoint"],
        ["serve", "--checkpoint"],
        ["web", "site", "--checkpoint"],
    ],
)
def test_each_command_reports_a_missing_repository(hub: Hub, photos, words, capsys):
    assert main([*words, "hf-hub:me/none"]) == 1
    err = capsys.readouterr().err
    assert "hf-hub:me/none: http://127.0.0.1:" in err
    assert "me/none does not exist, or it is private" in err
    assert err.count("\n") == 1


def test_training_starts_from_the_hub(hub: Hub, folder):
    from captioner.build import load_checkpoint

    hub.add("me/tiny", folder)
    model, tokenizer, _ = load_checkpoint("hf-hub:me/tiny", for_training=False)
    assert tokenizer.model == (folder / "tokenizer.model").read_bytes()
    assert not model.training


def test_names_of_the_hub_are_checkpoints_of_compare():
    assert is_checkpoint("hf-hub:me/tiny")
    assert not is_checkpoint("me/tiny")


def test_help_names_the_forms_of_a_checkpoint(capsys):
    with pytest.raises(SystemExit, match="0"):
        generate.main(["--help"])
    assert "hf-hub:USER/NAME[@REVISION]" in capsys.readouterr().out.replace("\n", " ")
