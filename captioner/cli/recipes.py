"""Find a training configuration by its name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from captioner.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "config" / "recipes"
REMOVED = {
    "flickr8k": 'see "A new captioner" in docs/training.md',
    "vqa": 'see "Add question answering to a captioner" in docs/questions.md',
}
"""Configurations of earlier versions, with the documentation of what replaces them."""


def config_path(name: str) -> str:
    """Return the path of a training configuration.

    A local file has precedence over the configuration of the package with that name. `finetune`,
    `finetune.yaml` and `configs/finetune.yaml` are one name.

    Raises:
        ConfigError: Neither a file nor a bundled configuration has this name.
    """
    for path in (name, f"{name}.yaml", f"{name}.yml"):
        if os.path.exists(path) and not os.path.isdir(path):
            return path
    files = RECIPES.rglob("*.yaml")
    known = {x.relative_to(RECIPES).with_suffix("").as_posix(): x for x in files}
    key = os.path.normpath(name).replace(os.sep, "/").removeprefix("configs/")
    key = key.removesuffix(".yaml").removesuffix(".yml")
    training = sorted(key for key in known if "/" not in key)
    if key in training:
        return str(known[key])
    if key in known:
        command = f"accelerate launch --config_file {known[key]}"
        raise ConfigError(f"{name}: is a configuration of the launcher, for `{command}`")
    if key in REMOVED:
        where = f"{REMOVED[key]}, or use the configuration bundled for captions and questions"
        raise ConfigError(f"{name}: this configuration was removed; {where}")
    if "/" in key:  # A path, and not a name.
        return name
    nearest = difflib.get_close_matches(key, training, n=1, cutoff=0.0)[0]
    hint = f"the nearest is {nearest}, of {', '.join(training)}"
    raise ConfigError(f"{name}: no such file, and no configuration of the package; {hint}")
