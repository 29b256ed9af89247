"""Test that every audio file gives a recording or one typed, printable error."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("soundfile")

from bad_recordings import RATE, TONE, BadKind, kinds, riff, tone, write

from captioner import errors
from captioner.audio import is_audio, is_silent_or_noise, load_audio
from captioner.errors import AudioError, AudioFormatError, AudioSizeError, DependencyError

KINDS = kinds()


def load(source: object, name: str) -> object:
    """Return the recording, or the error, whose message is checked."""
    try:
        return load_audio(source)
    except AudioError as error:
        message = str(error)
        assert message.isprintable()
        assert message.startswith(name), message
        return error


def check(found: object, kind: BadKind) -> None:
    """Compare the result of a file with the expected one."""
    if isinstance(found, AudioError):
        assert kind.expect in ("error", "either"), found
        if kind.expect == "error":
            assert type(found) is getattr(errors, kind.error)
        return
    assert kind.expect != "error"
    assert found.samples.dtype == np.float32
    assert found.samples.ndim == 1
    assert found.rate == RATE
    assert np.abs(found.samples).max() <= 1
    if kind.seconds is not None:
        assert found.seconds == pytest.approx(kind.seconds, abs=0.06)
    assert is_silent_or_noise(found) is kind.silent
    if kind.expect == "tone":
        assert found.seconds > 0.1
        spectrum = np.abs(np.fft.rfft(found.samples * np.hanning(len(found.samples))))
        assert np.argmax(spectrum) / found.seconds == pytest.approx(440, abs=12)


def test_there_are_many_kinds() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) > 100


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: repr(kind.name)[1:-1])
def test_a_file_gives_a_recording_or_a_typed_error(kind: BadKind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    if callable(kind.content):
        kind.content(path)
        check(load(path, str(tmp_path)), kind)
        return
    path.write_bytes(kind.content)
    check(load(path, str(tmp_path)), kind)
    check(load(kind.content, "<bytes>: "), kind)


@pytest.mark.parametrize(
    "source",
    [
        *(None, 7, 2.5, [1], object(), io.StringIO("RIFF"), ()),
        *((TONE,), (TONE, 2.5), (TONE, True), (TONE, -1), (TONE, 10**9), ([0.5], RATE)),
        *((np.zeros((2, 2, 2)), RATE), (np.zeros(0), RATE), (np.zeros((0, 2)), RATE)),
        *((np.zeros((9, 0)), RATE), (np.zeros((9, 65)), RATE), (np.float64(1), RATE)),
        *((np.zeros(9, complex), RATE), (np.zeros(9, bool), RATE), (np.array(["a"]), RATE)),
        *((np.array([0, np.nan]), RATE), (np.array([0, -np.inf]), RATE)),
    ],
    ids=lambda source: type(source).__name__,
)
def test_other_sources_are_rejected(source: object) -> None:
    found = load(source, "<array>: " if isinstance(source, tuple) else "<file>: ")
    assert isinstance(found, AudioError)


def test_closed_files_and_failing_readers_are_errors() -> None:
    closed = io.BytesIO(write(TONE))
    closed.close()

    class Failing(io.RawIOBase):
        def readinto(self, _buffer: object) -> int:
            raise ConnectionResetError("gone")

    for source in (closed, Failing()):
        assert isinstance(load(source, "<file>: "), AudioError)


def test_file_objects_stay_open_and_are_read_from_their_start() -> None:
    file = io.BytesIO(write(TONE))
    file.seek(100)
    assert load_audio(file).seconds == 1
    assert not file.closed


def test_a_file_without_permission_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(write(TONE))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # chmod has no effect for root
    with pytest.raises(AudioError, match="Permission denied"):
        load_audio(path)


def test_the_longest_duration_is_exact() -> None:
    data = write(TONE)
    assert load_audio(data, max_seconds=1).seconds == 1
    for source in (data, (TONE, RATE)):
        with pytest.raises(AudioSizeError, match=r"longer than 0\.99 s"):
            load_audio(source, max_seconds=0.99)


def test_a_header_that_claims_hours_allocates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate, sizes = np.empty, []
    monkeypatch.setattr(np, "empty", lambda *a, **o: sizes.append(a) or allocate(*a, **o))
    data = riff((TONE * 32767).astype("<i2").tobytes(), size=0x7FFFFFF0)
    assert load_audio(data).seconds == 1
    assert sizes
    assert max(np.prod(size[0]) for size in sizes) <= 4096


def test_a_large_file_is_rejected_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.audio.recording._MAX_BYTES", 1000)
    with pytest.raises(AudioSizeError, match="bytes; expected at most 1000"):
        load_audio(write(TONE))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "MP3", "OGG"])
def test_damaged_files_give_a_recording_or_an_error(kind: str) -> None:
    data = write(tone(seconds=0.5), kind=kind)
    generator = np.random.default_rng(len(kind))
    for _ in range(40):
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), generator.integers(1, 9)):
            damaged[place] ^= 1 << generator.integers(8)
        found = load(bytes(damaged), "<bytes>: ")
        assert isinstance(found, AudioError) or np.isfinite(found.samples).all()


def test_without_soundfile_one_line_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(TONE)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(DependencyError, match=r'pip install "captioner\[audio\]"'):
        load_audio(data)
    assert load_audio((TONE, RATE)).seconds == 1
    with pytest.raises(AudioFormatError):
        load_audio(b"just text")


def test_audio_is_recognized_by_content() -> None:
    for kind in KINDS:
        if not callable(kind.content) and kind.expect == "tone":
            assert is_audio(kind.content[:64]), kind.name
        if kind.error == "AudioFormatError" and not callable(kind.content):
            assert not is_audio(kind.content[:64]), kind.name
