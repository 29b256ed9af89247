"""Identify audio files by their first bytes, whatever their names are."""

from __future__ import annotations

import re

from captioner.errors import AudioFormatError

_FORMATS = (
    ("WAV", rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE"),
    ("FLAC", rb"fLaC"),
    ("Ogg", rb"OggS"),  # Vorbis and Opus
    ("AIFF", rb"FORM....AIF[FC]"),
    # A tag, or a frame header of MPEG 1, 2 or 2.5, layer II or III, with a valid bit rate other
    # than 0 and a valid sample rate.
    (
        "MP3",
        rb"ID3[\2-\4]"
        rb"|\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]"
        rb"[\x10-\x1b\x20-\x2b\x30-\x3b\x40-\x4b\x50-\x5b\x60-\x6b\x70-\x7b"
        rb"\x80-\x8b\x90-\x9b\xa0-\xab\xb0-\xbb\xc0-\xcb\xd0-\xdb\xe0-\xeb]",
    ),
)
AUDIO_FORMATS = tuple(name for name, _ in _FORMATS)
_OTHER_TYPES = (
    ("a git-LFS pointer, not the recording itself (run `git lfs pull`)", rb"version https://git-l"),
    ("an MP4, M4A or QuickTime file, which is not read", rb"....ftyp"),
    ("a WebM or Matroska file, which is not read", rb"\x1aE\xdf\xa3"),
    ("an AAC stream, which is not read", rb"\xff[\xf0\xf1\xf8\xf9]"),
    ("an image", rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM....\0\0\0\0"),
    ("a PDF file", rb"%PDF"),
    ("an archive, which is not read", rb"PK\x03\x04|\x1f\x8b"),
    ("HTML or XML text", rb"(?:\xef\xbb\xbf)?\s*<"),
    ("text", rb"(?:[\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]*){4,}\Z"),
)
NEEDED_BYTES = 64
"""The number of first bytes that identify a file."""


def is_audio(head: bytes) -> bool:
    """Return whether a file that starts with `head` has a supported audio format."""
    return _find_format(head) is not None


def identify_audio(head: bytes) -> str:
    """Return the format of a file that starts with `head`; raise AudioFormatError for others."""
    if name := _find_format(head):
        return name
    unknown = f"of an unknown format (first bytes {head[:8].hex(' ')})" if head else "empty"
    other = (name for name, signature in _OTHER_TYPES if re.match(signature, head, re.DOTALL))
    expected = ", ".join(AUDIO_FORMATS)
    raise AudioFormatError(f"is {next(other, unknown)}; expected {expected}")


def _find_format(head: bytes) -> str | None:
    names = (name for name, signature in _FORMATS if re.match(signature, head, re.DOTALL))
    return next(names, None)
