"""Read images and recordings in the input formats of the members of a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from captioner.backends.model_inputs import Inputs, ModelInput, Prepared, split_input
from captioner.errors import ImageFormatError, InputError
from captioner.images import ImageInput, fit, is_blank, load_image
from captioner.images.transforms import PixelSpec, normalize
from captioner.sources import printable_line, source_name

if TYPE_CHECKING:
    from captioner.audio import AudioInput, AudioSpec


_GIVEN = {
    ("image",): "an image was",
    ("audio",): "a recording was",
    ("image", "audio"): "an image and a recording were",
}


class Stacked(NamedTuple):
    """The batch of each member: inputs with the same parts."""

    arrays: list[np.ndarray] | None
    """Inputs of the first encoder, float32 (B, 3, H, W) or (windows of all, 1, M, T)."""
    audio: list[np.ndarray] | None
    """Inputs of the second encoder, float32 (windows of all, 1, M, T)."""
    windows: list[int]
    """Number of windows of each recording; empty without recordings."""


class InputReader:
    """Reads inputs once for each distinct format of the members.

    Args:
        specs: The formats of the first encoders.
        audio_specs: The formats of the second encoders, if the members have one.
    """

    def __init__(
        self, specs: Sequence[PixelSpec | AudioSpec], audio_specs: Sequence[AudioSpec] = ()
    ) -> None:
        self.specs, self.audio_specs = specs, audio_specs
        self._pixels = [x for x in dict.fromkeys(specs) if isinstance(x, PixelSpec)]
        first = [x for x in dict.fromkeys(specs) if not isinstance(x, PixelSpec)]
        self._spectrograms = first or list(dict.fromkeys(audio_specs))
        self._other_formats: Sequence[str] = ()
        """The formats of recordings, if the model takes images, too."""
        if self._pixels and self._spectrograms:
            from captioner.audio.signatures import AUDIO_FORMATS

            self._other_formats = AUDIO_FORMATS

    def read(self, source: ModelInput) -> Prepared:
        """Read one image, recording or pair; raise InputError."""
        inputs = self._split(source)
        self._check_kinds(inputs)
        parts = []
        if inputs.image is not None:
            others = self._other_formats if inputs is not source else ()
            parts.append(self._read_image(inputs.image, others))
        if inputs.audio is not None:
            parts.append(self._read_audio(inputs.audio))
        first, last = parts[0], parts[-1]
        is_low = all(part.low_confidence for part in parts)
        kinds = tuple(kind for part in parts for kind in part.kinds)
        return Prepared(first.arrays, first.size, is_low, last.audio, kinds)

    def _check_kinds(self, inputs: Inputs) -> None:
        """Raise InputError if there is no input, or one that the model does not take."""
        kinds = tuple(name for name in ("image", "audio") if getattr(inputs, name) is not None)
        if not kinds:
            raise InputError("neither an image nor a recording was given")
        if "audio" in kinds and not self._spectrograms:
            raise InputError(f"{_GIVEN[kinds]} given; this model takes images only")
        if "image" in kinds and not self._pixels:
            raise InputError(f"{_GIVEN[kinds]} given; this model takes recordings only")

    def _split(self, source: ModelInput) -> Inputs:
        """Return a source as an image, a recording or both."""
        if isinstance(source, Inputs):
            return source
        if not self._spectrograms:
            return Inputs(image=cast("ImageInput", source))
        if not self._pixels:
            return Inputs(audio=cast("AudioInput", source))
        return split_input(source)

    def _read_image(self, source: ImageInput, other_formats: Sequence[str]) -> Prepared:
        # A large photograph decodes several times as fast at a reduced scale; twice the encoder's
        # size is enough for the resizing filter.
        size = 2 * max(max(spec.size) for spec in self._pixels)
        try:
            loaded = load_image(source, min_size=size, other_formats=other_formats)
        except ImageFormatError:
            if split_input(source).audio is not None:
                name, problem = source_name(source) or "<file>", "expected an image"
                if not self._spectrograms:
                    problem = "this model takes images only, see docs/multimodal.md for others"
                line = f"{name}: is a recording; {problem}"
                raise InputError(printable_line(line)) from None
            raise
        fitted = [fit(loaded, s.size, crop=s.resize == "crop") for s in self._pixels]
        arrays = tuple(map(normalize, fitted, self._pixels))
        return Prepared(arrays, loaded.size, is_blank(loaded, fitted[0]))

    def _read_audio(self, source: AudioInput) -> Prepared:
        # Imported here: most models take no recordings.
        from captioner.audio import is_silent_or_noise, load_audio, to_spectrogram
        from captioner.audio import windows as find_windows

        recordings = {spec.rate: load_audio(source, spec.rate) for spec in self._spectrograms}
        arrays = []
        for spec in self._spectrograms:
            recording = recordings[spec.rate]
            parts = [to_spectrogram(recording, spec, t) for t in find_windows(recording, spec)]
            arrays.append(np.stack(parts))
        is_low = is_silent_or_noise(recordings[self._spectrograms[0].rate])
        stacked = tuple(arrays)
        if self._pixels:
            return Prepared((), (0, 0), is_low, stacked, ("audio",))
        return Prepared(stacked, (0, 0), is_low, (), ("audio",))

    def stack(self, inputs: Sequence[Prepared]) -> Stacked:
        """Return each member's batch of inputs with the same parts; members may share arrays."""
        has_audio = "audio" in inputs[0].kinds
        counts = [len((x.audio or x.arrays)[0]) for x in inputs] if has_audio else []
        first = second = None
        if inputs[0].arrays:
            combine = np.stack if self._pixels else np.concatenate
            batches = [combine(part) for part in zip(*(x.arrays for x in inputs), strict=True)]
            first = [batches[self._pick(spec)] for spec in self.specs]
        if inputs[0].audio:
            batches = [
                np.concatenate(part) for part in zip(*(x.audio for x in inputs), strict=True)
            ]
            second = [batches[self._spectrograms.index(spec)] for spec in self.audio_specs]
        return Stacked(first, second, counts)

    def _pick(self, spec: PixelSpec | AudioSpec) -> int:
        if isinstance(spec, PixelSpec):
            return self._pixels.index(spec)
        return self._spectrograms.index(spec)
