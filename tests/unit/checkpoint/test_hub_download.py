"""Checkpoints on the Hugging Face Hub, downloaded from a server on this machine."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, make_public_files
from tiny import make_checkpoint, picture

import captioner
from captioner.checkpoint import fingerprint, pin_checkpoint, resolve_checkpoint
from captioner.checkpoint.resolution import describe_name, resolve_writable_checkpoint
from captioner.errors import CheckpointError, DependencyError

OWN = {"config.yaml", "model.safetensors", "tokenizer.model", "metrics.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("hub") / "best")


def cached(tmp_path: Path) -> set[str]:
    """Return the files in the cache that mark a complete checkpoint."""
    names = ("config.yaml", "config.json")
    return {p.name for p in (tmp_path / "hub_cache").rglob("*") if p.name in names}


# Downloads


def test_a_checkpoint_is_downloaded_once(hub: Hub, folder, tmp_path):
    hub.add("me/tiny", folder)
    files = {"pytorch_model.bin": b"", "notes/a.txt": b"", "manifest.json": b"{}", "x.py": b""}
    commit = hub.repositories["me/tiny"].commit(files)
    path = resolve_checkpoint("hf-hub:me/tiny")
    assert path.name == commit
    assert {p.name for p in path.iterdir()} == OWN
    assert fingerprint(["hf-hub:me/tiny"]) == fingerprint([folder])
    hub.downloads()
    assert resolve_checkpoint("hf-hub:me/tiny") == path
    assert hub.downloads() == []
    assert resolve_checkpoint(f"hf-hub:me/tiny@{commit}") == path
    assert hub.requests == [], "a commit in the cache needs no request"


def test_captions_are_those_of_the_folder_and_copies_keep_the_commit(hub: Hub, folder):
    hub.add("me/tiny", folder)
    image = picture(1)
    expected = captioner.load(folder).caption([image])[0]
    model = captioner.load("hf-hub:me/tiny")
    assert model.caption([image])[0] == expected
    commit = hub.repositories["me/tiny"].branches["main"]
    assert model._origin.names == (f"hf-hub:me/tiny@{commit}",)
    hub.repositories["me/tiny"].commit({"config.yaml": b"broken: ["})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.caption([image])[0] == expected


def test_a_new_commit_is_downloaded_and_an_old_one_keeps_its_name(hub: Hub, folder):
    repository = hub.add("me/tiny", folder)
    old = pin_checkpoint("hf-hub:me/tiny")
    hub.downloads()
    new = repository.commit({"metrics.json": b"{}"})
    assert pin_checkpoint("hf-hub:me/tiny") == f"hf-hub:me/tiny@{new}" != old
    assert hub.downloads() == ["metrics.json"]
    assert resolve_checkpoint(old).name == old.partition("@")[2]
    assert describe_name(old) == {"name": "hf-hub:me/tiny", "revision": old.partition("@")[2]}


@pytest.mark.parametrize("revision", ["dev", "v1.0", "refs/pr/1"])
def test_a_revision_is_a_branch_a_tag_or_a_request(hub: Hub, folder, revision):
    repository = hub.add("me/tiny", folder)
    commit = repository.commit({"metrics.json": b"{} "}, revision)
    repository.commit({"metrics.json": b"{}  "})
    repository.commits[commit] |= {p.name: p.read_bytes() for p in folder.iterdir()}
    assert resolve_checkpoint(f"hf-hub:me/tiny@{revision}").name == commit
    hub.status = 503
    assert resolve_checkpoint(f"hf-hub:me/tiny@{revision}").name == commit


@pytest.mark.parametrize("shards", [0, 2])
def test_a_transformers_model_is_downloaded_without_what_it_does_not_need(hub: Hub, shards):
    needed = make_public_files(shards=shards) | {"chat_template.jinja": b"", "merges.txt": b""}
    needed["additional_chat_templates/tool.jinja"] = b""
    needed |= {f"qformer_tokenizer/{name}": b"{}" for name in ("tokenizer.json", "vocab.txt")}
    others = {"pytorch_model.bin": b"", "consolidated.safetensors": b"", "onnx/a.json": b"{}"}
    others |= {"qformer_tokenizer/pytorch_model.bin": b"", "qformer_tokenizer/old/a.json": b"{}"}
    others |= {"README.md": b"", "modeling.py": b"raise SystemExit"}
    hub.add("org/model.b", needed | others)
    path = resolve_checkpoint("hf-hub:org/model.b")
    got = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert got == set(needed)
    assert fingerprint(["hf-hub:org/model.b"]) == fingerprint(["hf-hub:org/model.b"])


def test_one_file_is_preferred_to_shards(hub: Hub):
    hub.add("org/model", make_public_files(shards=2) | make_public_files())
    names = {p.name for p in resolve_checkpoint("hf-hub:org/model").iterdir()}
    assert "model.safetensors" in names
    assert not any("-of-" in name for name in names)


def test_config_json_decides_where_both_configurations_exist(hub: Hub, folder):
    hub.add("me/tuned", make_public_files() | {"config.yaml": b"{}", "metrics.json": b"{}"})
    names = {p.name for p in resolve_checkpoint("hf-hub:me/tuned").iterdir()}
    assert names == {*make_public_files(), "config.yaml", "metrics.json"}
    hub.add("me/own", folder).commit({"config.json": b'{"model_type": "captioner"}'})
    names = {p.name for p in resolve_checkpoint("hf-hub:me/own").iterdir()}
    assert names == {*OWN, "config.json"}


def test_private_and_gated_repositories_need_a_token(hub: Hub, folder, monkeypatch):
    hub.add("me/private", folder, private=True)
    hub.add("me/gated", folder, gated=True)
    with pytest.raises(CheckpointError, match=r"does not exist, or it is private; .*HF_TOKEN"):
        resolve_checkpoint("hf-hub:me/private")
    with pytest.raises(CheckpointError, match="its authors restrict access; accept the conditions"):
        resolve_checkpoint("hf-hub:me/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve_checkpoint("hf-hub:me/private").is_dir()
    assert resolve_checkpoint("hf-hub:me/gated").is_dir()


# Faults


@pytest.mark.parametrize(
    "name",
    ["", "tiny", "me/", "/tiny", "me/a/b", "me/a b", "me/..", "-me/a", "me/a--b", "me/a.git",
     "../me", "me/a@", "me/a@b c", "me/a@..", "me/a@b..c", "https://x/me/a"],
)  # fmt: skip
def test_a_wrong_name_is_rejected_without_a_request(hub: Hub, name):
    with pytest.raises(CheckpointError, match=r"is no (repository|revision)"):
        resolve_checkpoint(f"hf-hub:{name}")
    assert hub.requests == []


def test_the_hub_is_not_used_for_other_names(hub: Hub, folder):
    captioner.load(folder)
    with pytest.raises(CheckpointError, match=r"no model\.safetensors there"):
        resolve_checkpoint("me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": b"", "config.json": b"{}"}, r"has only pickles \(pytorch_model"),
        ({"model.ckpt": b""}, r"has only pickles \(model\.ckpt\); .*save_pretrained"),
        ({"README.md": b""}, r"has no model\.safetensors; expected the repository of a model"),
        ({"model.safetensors": b""}, r"has neither config\.yaml nor config\.json"),
        (
            {k: v for k, v in make_public_files(shards=2).items() if "00002-of" not in k},
            r"1 of the 2 files of the weights .* the repository is not complete",
        ),
    ],
)
def test_a_repository_without_usable_weights_is_rejected_first(hub: Hub, files, message, tmp_path):
    hub.add("me/model", files)
    with pytest.raises(CheckpointError, match=message):
        resolve_checkpoint("hf-hub:me/model")
    assert not any(name.endswith((".bin", ".safetensors", ".ckpt")) for name in hub.downloads())
    assert cached(tmp_path) == set()


def test_unknown_repositories_and_revisions(hub: Hub, folder):
    repository = hub.add("me/tiny", folder)
    with pytest.raises(CheckpointError, match="me/other does not exist, or it is private"):
        resolve_checkpoint("hf-hub:me/other")
    with pytest.raises(CheckpointError, match="the repository has no revision v2; name a branch"):
        resolve_checkpoint("hf-hub:me/tiny@v2")
    with pytest.raises(CheckpointError, match=r"has no revision 0{40}"):
        resolve_checkpoint(f"hf-hub:me/tiny@{'0' * 40}")
    repository.branches["dev"] = repository.branches["main"]
    resolve_checkpoint("hf-hub:me/tiny@dev")
    del repository.branches["dev"]
    with pytest.raises(CheckpointError, match="has no revision dev"):
        resolve_checkpoint("hf-hub:me/tiny@dev")


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "is private|access was denied"), (403, r"access was denied \(status 403\)"),
     (429, r"\(status 429\)"), (500, r"\(status 500\)"), (418, "the request failed")],
)  # fmt: skip
def test_other_responses_are_one_line(hub: Hub, status, message):
    hub.status = status
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve_checkpoint("hf-hub:me/tiny")
    assert "\n" not in str(caught.value)


def test_without_network_the_cache_is_used(hub: Hub, folder, monkeypatch, caplog):
    from huggingface_hub import constants

    hub.add("me/tiny", folder)
    path = resolve_checkpoint("hf-hub:me/tiny")
    hub.delay = 1
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    assert resolve_checkpoint("hf-hub:me/tiny") == path
    assert "no answer (ReadTimeout" in caplog.text
    with pytest.raises(CheckpointError, match=r"cannot be reached \(ReadTimeout: timed out\)"):
        resolve_checkpoint("hf-hub:me/other")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve_checkpoint("hf-hub:me/tiny") == path
    with pytest.raises(CheckpointError, match=r":9 cannot be reached \(ConnectError"):
        resolve_checkpoint("hf-hub:me/other")
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_checkpoint("hf-hub:me/tiny") == path
    assert caplog.text == ""
    with pytest.raises(CheckpointError, match="is not complete in the cache, and HF_HUB_OFFLINE"):
        resolve_checkpoint("hf-hub:me/other")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids downloads"):
        resolve_checkpoint("hf-hub:me/tiny@v2")


def test_an_incomplete_copy_is_not_used(hub: Hub, folder, monkeypatch, tmp_path):
    from huggingface_hub import constants

    hub.add("me/tiny", folder)
    hub.truncate = "model.safetensors"
    with pytest.raises(CheckpointError, match=r"hf-hub:me/tiny: .*[Cc]onsistency check failed"):
        resolve_checkpoint("hf-hub:me/tiny")
    assert cached(tmp_path) == set()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="is not complete in the cache"):
        resolve_checkpoint("hf-hub:me/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.truncate = ""
    assert resolve_checkpoint("hf-hub:me/tiny").is_dir()


def test_truncated_weights_of_a_repository_are_an_error(hub: Hub, folder):
    weights = (folder / "model.safetensors").read_bytes()
    hub.add("me/tiny", folder).commit({"model.safetensors": weights[:-5]})
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"tensors end at byte .*; if the repository"):
            resolve_checkpoint("hf-hub:me/tiny")


def test_a_full_disk_leaves_no_partial_files(hub: Hub, folder, monkeypatch, tmp_path):
    from captioner.checkpoint import hub_download

    hub.add("me/tiny", folder)

    def fill(repository: str, **_: object) -> str:
        blobs = tmp_path / "hub_cache" / "models--me--tiny" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / "abc.incomplete").write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hub_download, "snapshot_download", fill)
        with pytest.raises(CheckpointError, match=r"the disk of the cache is full .*set HF_HOME"):
            resolve_checkpoint("hf-hub:me/tiny")
    assert cached(tmp_path) == set()
    assert not list((tmp_path / "hub_cache").rglob("*.incomplete"))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(CheckpointError, match=r"is too full: \d+ MB are needed and 0 MB free"):
            resolve_checkpoint("hf-hub:me/tiny")
    assert resolve_checkpoint("hf-hub:me/tiny").is_dir()


def test_the_client_of_the_hub_is_optional(monkeypatch):
    monkeypatch.delitem(sys.modules, "captioner.checkpoint.hub_download", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    expected = r'^hf-hub:me/tiny needs huggingface_hub, .*pip install "captioner\[hub\]"'
    with pytest.raises(DependencyError, match=expected):
        resolve_checkpoint("hf-hub:me/tiny")


def test_the_cache_is_not_changed(hub: Hub, folder):
    hub.add("me/tiny", folder)
    with pytest.raises(CheckpointError, match="--calibrate replaces files of the checkpoint"):
        resolve_writable_checkpoint("hf-hub:me/tiny", "--calibrate")
    assert hub.requests == []
