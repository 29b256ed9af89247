"""The graph of the stages of a run: their names, their starts and their image sizes.

A stage is identified by its number, which is its position among the stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioner.errors import ConfigError

if TYPE_CHECKING:
    from captioner.config.train_section import StageConfig


def stage_names(stages: Sequence[StageConfig]) -> list[str]:
    """Return the name of each stage: its own, or its number."""
    return [stage.name or str(number) for number, stage in enumerate(stages)]


def find_start(stages: Sequence[StageConfig], number: int) -> int | None:
    """Return the stage whose result a stage starts from, None for the first one.

    For a stage that averages checkpoints, that is the last of the averaged stages.
    """
    stage, names = stages[number], stage_names(stages)
    name = stage.average[-1] if stage.average else stage.start
    if name is not None:
        return names.index(name)
    return number - 1 if number else None


def find_size(stages: Sequence[StageConfig], number: int, default: int | None) -> int | None:
    """Return the image size of a stage: its own, else that of its start, else `default`."""
    here: int | None = number
    while here is not None:
        if size := stages[here].size:
            return size
        here = find_start(stages, here)
    return default


def check_graph(stages: Sequence[StageConfig]) -> None:
    """Raise ConfigError if two stages share a name or a stage refers to one that is not earlier."""
    names = stage_names(stages)
    for number, stage in enumerate(stages):
        where = f"train.stages.{number}"
        if names[number] in names[:number]:
            problem = f"is also stage {names.index(names[number])}; names must be unique"
            raise ConfigError(f"{where}.name={names[number]}: {problem}")
        # The name is also that of a folder.
        if not names[number].replace("-", "").replace("_", "").isalnum():
            expected = "expected letters, digits, - and _"
            raise ConfigError(f"{where}.name={names[number]!r}: {expected}")
        if stage.average and stage.start is not None:
            problem = "the average is the start of the stage; remove one of them"
            raise ConfigError(f"{where}: start and average exclude each other: {problem}")
        for key, name in (("start", stage.start), *(("average", n) for n in stage.average)):
            if name is not None and name not in names[:number]:
                known = ", ".join(names[:number]) or "none, since this is the first one"
                kind = "is not an earlier stage" if name in names else "is not a stage"
                raise ConfigError(f"{where}.{key}={name}: {kind}; earlier ones are: {known}")
