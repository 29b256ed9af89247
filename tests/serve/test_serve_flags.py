"""The flags of `serve.py`."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

pytest.importorskip("gradio")
from captioner.cli import serve
from captioner.cli.process import show_messages
from captioner.config import DecodingConfig
from captioner.serve.routes.native_fields import CaptionRequest


@pytest.mark.parametrize(
    "words", [["--deadline", "-1"], ["--max-batch", "0"], ["--max-body", "nan"], ["--port", "x"]]
)
def test_wrong_usage_exits_with_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as left:
        serve.main(words)
    assert left.value.code == 2


def test_empty_or_unreadable_token_is_an_error(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(serve.TOKEN_VARIABLE, "")
    assert serve.main([]) == 1
    (tmp_path / "token").write_text("\n")
    assert serve.main(["--token-file", str(tmp_path / "token")]) == 1
    assert serve.main(["--token-file", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 3


def test_loopback_server_accepts_its_own_names() -> None:
    on = serve.parse([]).settings
    assert on.hosts == ("127.0.0.1", "localhost", "[::1]")
    assert serve.parse(["--host", "0.0.0.0"]).settings.hosts == ()
    named = serve.parse(["--host", "0.0.0.0", "--allow-host", "a.org"]).settings
    assert named.hosts == ("a.org",)


def test_default_limits_are_those_of_the_settings(monkeypatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    settings = serve.parse(["--host", "0.0.0.0"]).settings
    assert settings == type(settings)()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [("--lanes", "--workers", "workers"), ("--readers", "--image-decoders", "image_decoders")],
)
def test_renamed_flags_work_with_a_warning(old, new, field, capsys) -> None:
    show_messages("serve.py")
    for flag in (old, new):
        assert getattr(serve.parse([flag, "3"]).settings, field) == 3
    assert capsys.readouterr().err == f"serve.py: {old} is deprecated; use {new}\n"


def test_caption_requests_have_all_decoding_options() -> None:
    hints = get_type_hints(DecodingConfig)
    for field in fields(DecodingConfig):
        request_field = CaptionRequest.model_fields[field.name]
        assert request_field.annotation == hints[field.name] | None
        assert request_field.default is None
