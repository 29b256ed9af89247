"""Image captioning with a timm encoder and a Transformer decoder.

    import captioner
    model = captioner.load()            # the bundled checkpoint
    print(model.caption(["photo.jpg"])[0].text)

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Captioner", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Captioner", "load"):
        from captioner import predict

        return getattr(predict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
