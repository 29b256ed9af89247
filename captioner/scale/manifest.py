"""The record of a run: its settings and inputs, and one line for each shard that is done.

`run.json` has the settings and the origin of the model, `inputs.jsonl` the shards in the order of
their numbers, and `manifest.jsonl` the records of the parts with their digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from captioner.errors import DataError
from captioner.scale.output_folder import PARTS, AppendedFile, OutputFolder, is_temporary
from captioner.scale.shard_worker import Record
from captioner.scale.work_units import WorkUnit

RUN = "run.json"
INPUTS = "inputs.jsonl"
MANIFEST = "manifest.jsonl"


class Manifest:
    """The shards of a run that are done, and the file that records them.

    Of a finished shard, only its number is kept in memory.
    """

    def __init__(self, output: OutputFolder) -> None:
        self._output = output
        self._file = AppendedFile(output, MANIFEST)
        self.finished: set[int] = set()
        self.failed: dict[int, str] = {}
        """The reason of each shard that has failed."""
        self.rows = self.errors = 0
        """Numbers of rows, and of rows with an error, in the parts."""

    def add(self, record: Record) -> None:
        """Record a shard, once."""
        if record.unit in self.finished:
            return
        values = {name: value for name, value in asdict(record).items() if name != "stops"}
        self._file.append(json.dumps(values, ensure_ascii=False))
        self._count(values)

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def restore(self, *, by_digest: bool) -> Iterator[str]:
        """Read the records of earlier runs; yield messages about parts that are done again.

        A part that is missing, or differs from its record in its size or its digest, is removed
        and its shard is not finished. Temporary files of interrupted attempts are removed.

        Args:
            by_digest: Compare SHA-256 instead of sizes.
        """
        self.remove_temporary()
        for values in _read_records(self._output).values():
            if values["part"] is None:
                continue
            if problem := self._check(values, by_digest):
                yield f"{values['part']} {problem}; its shard is processed again"
            else:
                self._count(values)

    def remove_temporary(self) -> None:
        """Remove the temporary files of attempts whose process has died."""
        for name in self._output.list_parts():
            if is_temporary(name):
                self._output.remove_part(name)

    def _check(self, values: Mapping[str, Any], by_digest: bool) -> str:
        """Return how a part differs from its record; empty if it does not."""
        name = values["part"]
        size = self._output.size(name)
        if size is None:
            return "is missing"
        known = self._output.digest(name) if by_digest and size == values["bytes"] else None
        if size == values["bytes"] and (known is None or known[0] == values["sha256"]):
            return ""
        self._output.remove_part(name)
        return f"has {size} bytes, not {values['bytes']}" if known is None else "has changed"

    def _count(self, values: Mapping[str, Any]) -> None:
        if values["part"] is None:
            self.failed[values["unit"]] = values["error"]
            return
        self.failed.pop(values["unit"], None)
        self.finished.add(values["unit"])
        self.rows += values["rows"]
        self.errors += values["errors"]


def open_run(
    output: OutputFolder, settings: Mapping[str, Any], origin: Mapping[str, Any],
    units: Iterable[WorkUnit], *, resume: bool,
) -> int:  # fmt: skip
    """Start a run, or compare an earlier one with its settings and inputs.

    Args:
        output: The folder of the run.
        settings: The options that affect the parts, with the digests of the checkpoints.
        origin: Version of captioner and names of the checkpoints, which are recorded only.
        units: The input shards.
        resume: Continue an earlier run, if there is one.

    Returns:
        The number of shards.

    Raises:
        DataError: The folder has other files, or the earlier run differs. The message names the
            first difference.
    """
    data = output.read(RUN) if resume else None
    if data is not None:
        run = _compare_settings(output, data, settings)
        count = _compare_inputs(output, units)
        if origin == run["origins"][-1]:
            return count
        run["origins"].append(dict(origin))
    else:
        # A run that ended before it wrote RUN has no other files.
        if not output.is_empty() and not (resume and output.list_names() <= {INPUTS, PARTS}):
            hint = "give another folder" if resume else "add --resume, or give another folder"
            missing = f" and has no {RUN}" if resume else ""
            raise DataError(f"{output.url}: is not empty{missing}; {hint}")
        output.create()
        lines = [unit.to_json() + "\n" for unit in units]
        output.write(INPUTS, "".join(lines).encode())
        count = len(lines)
        run = {"settings": settings, "origins": [origin], "shards": count}
    output.write(RUN, json.dumps(run, indent=2, ensure_ascii=False).encode() + b"\n")
    return count


def _compare_settings(
    output: OutputFolder, data: bytes, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of RUN; raise DataError if its settings differ."""
    try:
        run = dict(json.loads(data))
        earlier, _ = dict(run["settings"]), run["origins"][-1]
    except (ValueError, KeyError, TypeError, IndexError):
        raise DataError(f"{output.url}: {RUN} is damaged; give another folder") from None
    new = json.loads(json.dumps(settings))
    for name in sorted(earlier.keys() | new.keys()):
        if earlier.get(name) != new.get(name):
            values = f"{name} {earlier.get(name)!r}, not {new.get(name)!r}"
            hint = "give the same options, or another folder"
            raise DataError(f"{output.url}: its parts were made with {values}; {hint}")
    return run


def _compare_inputs(output: OutputFolder, units: Iterable[WorkUnit]) -> int:
    count = 0
    lines = (output.read(INPUTS) or b"").decode().splitlines()
    for number, (line, unit) in enumerate(zip_longest(lines, units)):
        if line is not None and unit is not None and line == unit.to_json():
            count += 1
            continue
        if line is None:
            change = f"{unit.label} is new"
        elif unit is None:
            change = f"{WorkUnit.from_json(line).label} is missing"
        else:
            old = WorkUnit.from_json(line)
            same = old.label == unit.label
            change = f"{old.label} has changed" if same else f"it was {old.label}, is {unit.label}"
        hint = "restore the inputs, or give another folder"
        raise DataError(f"{output.url}: its inputs differ: shard {number}: {change}; {hint}")
    return count


def read_units(output: OutputFolder, skip: set[int]) -> Iterator[tuple[int, WorkUnit]]:
    """Yield the shards of a run that are not finished, with their numbers."""
    lines = (output.read(INPUTS) or b"").decode().splitlines()
    for number, line in enumerate(lines):
        if number not in skip:
            yield number, WorkUnit.from_json(line)


def _read_records(output: OutputFolder) -> dict[int, Mapping[str, Any]]:
    """Return the last record of each shard."""
    records: dict[int, Mapping[str, Any]] = {}
    for line in (output.read(MANIFEST) or b"").splitlines():
        try:
            values = json.loads(line)
            records[int(values["unit"])] = values
        except (ValueError, KeyError, TypeError):
            problem = f"a line of {MANIFEST} is damaged: {line[:80]!r}"
            raise DataError(f"{output.url}: {problem}") from None
    return records
