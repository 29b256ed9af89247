"""The record of a run: its settings and inputs, and one line for each shard that is done.

`run.json` has the settings and the origin of the model, `inputs.jsonl` the shards in the order of
their numbers, and `manifest.jsonl` the records of the parts with their digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from captioner.errors import CaptionerError, DataError
from captioner.scale.output_folder import PARTS, AppendedFile, OutputFolder, is_temporary
from captioner.scale.shard_worker import Record
from captioner.scale.work_units import WorkUnit

RUN = "run.json"
INPUTS = "inputs.jsonl"
MANIFEST = "manifest.jsonl"
_TYPES: dict[str, tuple[type, ...]] = {
    "unit": (int,), "input": (str,), "part": (str, type(None)), "rows": (int,), "errors": (int,),
    "bytes": (int,), "sha256": (str,), "seconds": (int, float), "error": (str,),
}  # fmt: skip
"""The types of the values of a record."""


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

    def restore(self, shards: int, *, by_digest: bool) -> Iterator[str]:
        """Read the records of earlier runs; yield messages about parts that are done again.

        A part that is missing, or differs from its record in its size or its digest, is removed
        and its shard is not finished. Temporary files of interrupted attempts are removed.

        Args:
            shards: Number of the shards of the run.
            by_digest: Compare SHA-256 instead of sizes.

        Raises:
            DataError: A record is damaged.
        """
        self.remove_temporary()
        for values in _read_records(self._output, shards).values():
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


@contextmanager
def discarded_on_error(output: OutputFolder) -> Iterator[None]:
    """Remove the files of a new run if it ends with an error before a shard is done."""
    try:
        yield
    except CaptionerError:
        if not output.read(MANIFEST) and not output.list_parts():
            output.remove_run((MANIFEST, INPUTS, RUN))
        raise


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
        count = _compare_inputs(output, units, run["shards"])
        if origin == run["origins"][-1]:
            return count
        run["origins"].append(dict(origin))
    else:
        # A run that ended before it wrote RUN has no other files.
        if not output.is_empty() and not (resume and output.list_names() <= {INPUTS, PARTS}):
            hint = "give another folder" if resume else "add --resume, or give another folder"
            missing = f" and has no {RUN}" if resume else ""
            raise DataError(f"{output.url}: is not empty{missing}; {hint}")
        lines = [unit.to_json() + "\n" for unit in units]
        output.create()
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
        if not isinstance(run["origins"], list) or not isinstance(run["shards"], int):
            raise TypeError
        old, new = _list_flags(earlier), _list_flags(json.loads(json.dumps(settings)))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise _damage(output, RUN, "is no record of a run") from None
    for flag in [*new, *(flag for flag in old if flag not in new)]:
        if old.get(flag) != new.get(flag):
            change = f"{_show(flag, old.get(flag))}, not {_show(flag, new.get(flag))}"
            hint = "give the same options, or another folder"
            raise DataError(f"{output.url}: its parts were made {change}; {hint}")
    return run


def _list_flags(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of settings by the flag that sets them, the questions first."""
    columns = dict(settings.get("columns") or {})
    values = {"question": settings.get("question"), "question_column": columns.get("question")}
    for name, value in settings.items():
        if name == "columns":
            values |= {f"{column}_column": each for column, each in columns.items()}
        elif name in ("answering", "decoding"):
            values |= value
        else:
            values[name] = value
    if "images" in values:
        values["no_images"] = not values.pop("images")
    if "method" in values:
        values["sample"] = values.pop("method") == "sample"
    return {f"--{name}".replace("_", "-"): value for name, value in values.items()}


def _show(flag: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return f"with {flag}" if value else f"without {flag}"
    return f"with {flag} {value!r}"


def _compare_inputs(output: OutputFolder, units: Iterable[WorkUnit], shards: int) -> int:
    lines = _read_inputs(output)
    if len(lines) != shards:
        raise _damage(output, INPUTS, f"has {len(lines)} lines; {RUN} records {shards} shards")
    for number, (line, unit) in enumerate(zip_longest(lines, units)):
        if line is not None and unit is not None and line == unit.to_json():
            continue
        old = None if line is None else _parse_unit(output, number, line)
        if old is None:
            change = f"{unit.label} is new"
        elif unit is None:
            change = f"{old.label} is missing"
        else:
            same = old.label == unit.label
            change = f"{old.label} has changed" if same else f"it was {old.label}, is {unit.label}"
        hint = "restore the inputs, or give another folder"
        raise DataError(f"{output.url}: its inputs differ: shard {number}: {change}; {hint}")
    return shards


def read_units(output: OutputFolder, skip: set[int]) -> Iterator[tuple[int, WorkUnit]]:
    """Yield the shards of a run that are not finished, with their numbers."""
    for number, line in enumerate(_read_inputs(output)):
        if number not in skip:
            yield number, _parse_unit(output, number, line)


def _read_inputs(output: OutputFolder) -> list[str]:
    data = output.read(INPUTS)
    if data is None:
        raise _damage(output, INPUTS, "is missing")
    return data.decode("ascii", "replace").splitlines()


def _parse_unit(output: OutputFolder, number: int, line: str) -> WorkUnit:
    try:
        return WorkUnit.from_json(line)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damage(output, INPUTS, f"has no shard in line {number + 1}") from None


def _damage(output: OutputFolder, name: str, problem: str) -> DataError:
    """Return the error for a file of a run that cannot be used."""
    hint = f"restore {name}, or give another folder"
    return DataError(f"{output.url}: {name} {problem}; {hint}")


def _read_records(output: OutputFolder, shards: int) -> dict[int, Mapping[str, Any]]:
    """Return the last record of each shard."""
    records: dict[int, Mapping[str, Any]] = {}
    for number, line in enumerate((output.read(MANIFEST) or b"").splitlines(), 1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not _is_record(values, shards):
            problem = f"line {number} of {MANIFEST} is damaged"
            hint = "remove this line and repeat the command: a complete part is recorded again"
            raise DataError(f"{output.url}: {problem}; {hint}")
        records[values["unit"]] = values
    return records


def _is_record(values: Any, shards: int) -> bool:
    """Return whether a value is what `Manifest.add` writes for one of the shards."""
    if not isinstance(values, dict):
        return False
    if any(type(values.get(name, ...)) not in types for name, types in _TYPES.items()):
        return False
    if any(values[name] < 0 for name in ("unit", "rows", "errors", "bytes")):
        return False
    # Other names are not used, because a part that differs from its record is removed.
    part = values["part"]
    named = part is None or re.fullmatch(rf"part-0*{values['unit']}(\.\w+)?", part) is not None
    return named and values["unit"] < shards
