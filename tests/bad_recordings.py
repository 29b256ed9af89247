#!/usr/bin/env python
"""Invalid and unusual audio files: `python tests/bad_recordings.py FOLDER` writes them.

Each file must give an error or a recording. Most of the valid ones are TONE in another format.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from bad_inputs import GREY, encode, write_files

RATE = 16_000
SECONDS = 1.0


def tone(rate: int = RATE, seconds: float = SECONDS, hz: float = 440.0) -> np.ndarray:
    """Return a sine wave with amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


TONE = tone()
NOISE = np.random.default_rng(3).uniform(-0.5, 0.5, 5 * RATE)


@dataclass(frozen=True)
class BadKind:
    """One file: its content and the expected result."""

    name: str
    content: bytes | Callable[[Path], None]
    """Bytes, or a function that creates the path."""
    expect: str = "tone"
    """`error`; `tone`, TONE or its beginning; `other`, another recording; `either`."""
    error: str = "AudioError"
    """The name of the exact class of the error."""
    seconds: float | None = SECONDS
    """The expected duration, within 60 ms; None if any is accepted."""
    silent: bool = False
    """Whether the recording is silence or noise."""


def bad(name: str, content: bytes | Callable[[Path], None], error: str = "AudioError") -> BadKind:
    """Return a file that must give an error."""
    return BadKind(name, content, "error", error)


def write(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "") -> bytes:
    """Return samples as an audio file in a format that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype or None)
    return file.getvalue()


def riff(
    samples: bytes,
    *,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    tag: int = 1,
    size: int = -1,
) -> bytes:
    """Return a WAV file whose header holds any values; `size` is that of the samples."""
    size = len(samples) if size < 0 else size
    align = min(max(1, channels * bits // 8), 65535)
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    head = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(size + len(head), 0xFFFFFFFF)) + head + samples


def not_recordings() -> Iterator[BadKind]:
    """Yield files of other types with the name of a recording."""
    texts = {"text": "just text\n", "html": "<!DOCTYPE html><html>404</html>", "json": '{"a": 404}'}
    texts |= {"pdf": "%PDF-1.4\n%", "lfs": "version https://git-lfs.github.com/spec/v1\nsize 9\n"}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {"empty": b"", "one-byte": b"\xff", "zeros": bytes(4000), "zip": b"PK\3\4\0\0"}
    contents |= {
        "jpeg": encode(GREY, "JPEG"),
        "png": encode(GREY, "PNG"),
        "au": write(TONE, kind="AU"),
    }
    contents |= {"utf-16": b"\xff\xfea\0" * 99, "aac": b"\xff\xf1\x50\x80" + bytes(400)}
    heads = {"m4a": b"\0\0\0\x20ftypM4A \0\0\0\0", "webm": b"\x1aE\xdf\xa3"}
    heads |= {"webp": b"RIFF\x20\0\0\0WEBPVP8 ", "avi": b"RIFF\x20\0\0\0AVI LIST"}
    contents |= {name: head + bytes(40) for name, head in heads.items()}
    for name, content in contents.items():
        yield bad(f"{name}.wav", content, "AudioFormatError")
    yield bad("id3-only.mp3", b"ID3\4\0\0\0\0\0\x0a" + bytes(10))
    yield bad("sync-only.mp3", b"\xff\xfb\x90\x64" + bytes(9))
    for name, head in {"riff": b"RIFF\x24\0\0\0WAVE", "flac": b"fLaC", "ogg": b"OggS"}.items():
        yield bad(f"{name}-head.wav", head)
        yield bad(f"{name}-junk.wav", head + np.random.default_rng(0).bytes(3000))


def odd_paths() -> Iterator[BadKind]:
    """Yield paths that are not regular files, and unusual names."""
    yield bad("folder.wav", Path.mkdir)
    yield bad("pipe.wav", os.mkfifo)
    yield bad("zero.wav", lambda path: path.symlink_to("/dev/zero"))
    yield bad("dangling.wav", lambda path: path.symlink_to("nowhere.wav"))
    data = write(TONE)
    if os.geteuid():  # root may read everything
        yield bad("unreadable.wav", lambda path: (path.write_bytes(data), path.chmod(0)))
    yield BadKind("wav.mp3", data)
    yield BadKind("wav.raw", data)
    yield BadKind("flac.wav", write(TONE, kind="FLAC"))
    yield BadKind("without-extension", data)
    yield BadKind(os.fsdecode(b"new\nline-\xff.wav"), data)
    yield bad(os.fsdecode(b"bad-new\nline-\xff.wav"), b"junk", "AudioFormatError")


def encodings() -> Iterator[BadKind]:
    """Yield valid files of all formats, sample types, rates and numbers of channels."""
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"):
        yield BadKind(f"{subtype}.wav", write(TONE, subtype=subtype))
    for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610"):
        yield BadKind(f"{subtype}.wav", write(TONE, subtype=subtype), seconds=None)
    for kind in ("RF64", "WAVEX", "FLAC", "AIFF", "MP3"):
        yield BadKind(f"plain.{kind.lower()}", write(TONE, kind=kind), seconds=None)
    yield BadKind("vorbis.ogg", write(TONE, kind="OGG", subtype="VORBIS"))
    yield BadKind("opus.ogg", write(TONE, kind="OGG", subtype="OPUS"))
    yield BadKind("24-bit.flac", write(TONE, kind="FLAC", subtype="PCM_24"))
    for channels in range(2, 9):
        yield BadKind(f"{channels}-channels.wav", write(np.stack([TONE] * channels, axis=1)))
    for rate in (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000):
        yield BadKind(f"{rate}-hz.wav", write(tone(rate), rate))
    yield BadKind("odd-rate.wav", write(tone(44_101), 44_101))
    tag = b"ID3\4\0\0\0\0\x10\0" + bytes(2048)
    yield BadKind("tagged.mp3", tag + write(TONE, kind="MP3"), seconds=None)


def wrong_headers() -> Iterator[BadKind]:
    """Yield WAV files whose header does not match the content."""
    pcm = (TONE * 32767).astype("<i2").tobytes()
    yield BadKind("plain.wav", riff(pcm))
    yield BadKind("longer-in-header.wav", riff(pcm, size=0x7FFFFFF0))
    yield BadKind("streamed.wav", riff(pcm, size=0xFFFFFFFF))
    yield BadKind("zero-in-header.wav", riff(pcm, size=0), "either", seconds=None)
    yield BadKind("odd-byte.wav", riff(pcm + b"\1"))
    yield bad("zero-channels.wav", riff(pcm, channels=0))
    yield bad("65535-channels.wav", riff(pcm, channels=65535))
    yield bad("100-channels.wav", riff(bytes(20000), channels=100), "AudioSizeError")
    yield bad("zero-rate.wav", riff(pcm, rate=0))
    yield bad("rate-1.wav", riff(pcm, rate=1))
    yield bad("rate-4-billion.wav", riff(pcm, rate=0xFFFFFFFF))
    yield bad("rate-2-million.wav", riff(pcm, rate=2_000_000))
    yield bad("zero-bits.wav", riff(pcm, bits=0))
    yield bad("unknown-codec.wav", riff(pcm, tag=0x1234))
    yield bad("no-samples.wav", riff(b""))
    yield bad("header-only.flac", write(TONE, kind="FLAC")[:86])
    hour = write(np.zeros(3600 * 8000, np.int16), 8000, "FLAC")
    yield bad("an-hour.flac", hour, "AudioSizeError")


def truncated() -> Iterator[BadKind]:
    """Yield files that end early; the part before the end is read."""
    for kind in ("WAV", "FLAC", "AIFF", "MP3", "OGG"):
        # Noise, because an Ogg page holds about a second of it but many seconds of a tone.
        noisy = 0.7 * tone(seconds=5) + 0.3 * NOISE
        data = write(noisy if kind == "OGG" else noisy[: 2 * RATE], kind=kind)
        for part in (0.01, 0.3, 0.7, 0.99):
            content = data[: int(part * len(data))]
            expect = "either" if part == 0.01 else "tone"
            yield BadKind(f"cut-{part}.{kind.lower()}", content, expect, seconds=None)


def odd_samples() -> Iterator[BadKind]:
    """Yield valid files with few, extreme or constant samples."""
    yield BadKind("one-sample.wav", write(TONE[:1]), "other", seconds=1 / RATE, silent=True)
    yield BadKind("few-samples.wav", write(TONE[1:9]), "other", seconds=8 / RATE)
    for name, value in {"nan": np.nan, "infinite": np.inf}.items():
        yield bad(f"{name}.wav", write(np.append(TONE, value), subtype="FLOAT"))
    yield bad("beyond-float32.wav", write(TONE * 1e300, subtype="DOUBLE"))
    yield BadKind("gain.wav", write(TONE * 1e30, subtype="FLOAT"))
    yield BadKind("tiny.wav", write(TONE * 1e-30, subtype="FLOAT"), "other", silent=True)
    yield BadKind("silence.wav", write(np.zeros(RATE)), "other", silent=True)
    yield BadKind(
        "silence.mp3", write(np.zeros(RATE), kind="MP3"), "other", seconds=None, silent=True
    )
    yield BadKind("constant.wav", write(np.full(44_100, 0.5), 44_100), "other", silent=True)
    noise = write(NOISE[:44_100], 22_050)
    yield BadKind("noise.wav", noise, "other", seconds=2.0, silent=True)
    clipped = np.sign(tone(hz=100))
    yield BadKind("clipped.wav", write(clipped), "other")
    opposite = np.stack([TONE, -TONE], axis=1)
    yield BadKind("opposite-channels.wav", write(opposite), "other", silent=True)


def kinds() -> list[BadKind]:
    """Return all files."""
    sources = (not_recordings, odd_paths, encodings, wrong_headers, truncated, odd_samples)
    return [kind for source in sources for kind in source()]


def build(folder: Path) -> dict[Path, BadKind]:
    """Write all files to a folder; return each by its path."""
    return write_files(folder, kinds())


if __name__ == "__main__":
    print(f"{len(build(Path(sys.argv[1])))} files")
