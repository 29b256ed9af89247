"""Load recordings (path, bytes, binary file, array) as mono audio, and compute spectrograms.

WAV, FLAC, Ogg, MP3 and AIFF files are read with soundfile; everything else needs NumPy only.
"""

from __future__ import annotations

from captioner.audio.noise import is_silent_or_noise
from captioner.audio.recording import AudioInput, Recording, load_audio
from captioner.audio.signatures import is_audio
from captioner.audio.spectrogram import AudioSpec, log_mel, to_spectrogram, windows

__all__ = [
    "AudioInput",
    "AudioSpec",
    "Recording",
    "is_audio",
    "is_silent_or_noise",
    "load_audio",
    "log_mel",
    "to_spectrogram",
    "windows",
]
