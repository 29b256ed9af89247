"""Image captioning and visual question answering with a timm encoder and a Transformer decoder.

    import captioner
    model = captioner.load()            # the bundled checkpoint
    print(model.caption(["photo.jpg"])[0].text)

Each name is imported when it is first used, so that `import captioner` takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.errors import (
        AudioError,
        AudioFormatError,
        AudioSizeError,
        CaptionerError,
        CheckpointError,
        ConfigError,
        DataError,
        DependencyError,
        ImageError,
        ImageFormatError,
        ImageSizeError,
        InputError,
        MetricError,
        QuestionError,
        SplitError,
    )
    from captioner.images import ImageInput
    from captioner.predict import (
        Answer,
        Answers,
        Attention,
        Caption,
        Captioner,
        Encoded,
        Inputs,
        Result,
        Scored,
        load,
    )

__version__ = "0.3.0.dev0"
__all__ = [
    "Answer", "Answers", "Attention", "AudioError", "AudioFormatError", "AudioSizeError",
    "Caption", "Captioner", "CaptionerError",
    "CheckpointError", "ConfigError", "DataError", "DependencyError", "Encoded", "ImageError",
    "ImageFormatError", "ImageInput", "ImageSizeError", "InputError", "Inputs", "MetricError",
    "QuestionError", "Result", "Scored", "SplitError", "__version__", "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    part = "images" if name == "ImageInput" else "errors" if name.endswith("Error") else "predict"
    return getattr(import_module(f"{__name__}.{part}"), name)
