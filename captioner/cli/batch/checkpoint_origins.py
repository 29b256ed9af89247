"""What made the captions of a run: checkpoints, version and date, for its record and for XMP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captioner.cli.batch.run_record import ORIGINS
from captioner.cli.batch.xmp_properties import Origin
from captioner.cli.generate_options import CaptionOptions


def identify_checkpoints(options: CaptionOptions) -> dict[str, Any]:
    """Return a digest of each checkpoint and the origin of the rows, as FILE.meta.json has them."""
    from captioner import __version__
    from captioner.checkpoint import fingerprint
    from captioner.checkpoint.resolution import describe_name

    names = options.checkpoint or ["bundled"]
    origin = {
        "captioner": __version__,
        "checkpoint": [describe_name(name) for name in names],
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return {"checkpoint": [fingerprint([name])[:16] for name in names], ORIGINS: [origin]}


def make_origin(identity: Mapping[str, Any]) -> Origin:
    """Return what XMP states about the model, from `identify_checkpoints`.

    A folder is named by the last two parts of its path, because photographs may be published.
    """
    (origin,) = identity[ORIGINS]
    models, revisions = [], []
    for checkpoint, digest in zip(origin["checkpoint"], identity["checkpoint"], strict=True):
        name = checkpoint["name"]
        is_folder = not name.startswith("hf-hub:")
        models.append("/".join(Path(name).parts[-2:]) if is_folder else name)
        revisions.append(checkpoint["revision"] or digest)
    return Origin(
        model=" + ".join(models),
        version=origin["captioner"],
        revision=" + ".join(revisions),
        date=origin["date"],
    )
