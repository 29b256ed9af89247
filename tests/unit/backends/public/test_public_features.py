"""Test that the documentation lists what each family of public models supports."""

from __future__ import annotations

from pathlib import Path

import pytest
from public_features import PROBES, list_features, read_table
from public_folders.catalog import FAMILIES


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_documented_features(name: str, tmp_path: Path) -> None:
    (row,) = [line for line in read_table().splitlines() if line.startswith(f"| {name} |")]
    cells = [cell.strip() == "yes" for cell in row.strip("|").split("|")[1:]]
    assert cells[: len(PROBES)] == list_features(FAMILIES[name], tmp_path)


def test_all_families_are_documented() -> None:
    names = [line.split("|")[1].strip() for line in read_table().splitlines()[2:]]
    assert names == list(FAMILIES)
