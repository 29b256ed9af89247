"""Errors about optional dependencies that are not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

from captioner.errors import DependencyError
from captioner.extras import EXTRAS, explain_missing


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_error_names_the_library_and_its_extra(extra, monkeypatch):
    name = EXTRAS[extra][0]
    monkeypatch.setitem(sys.modules, name, None)
    expected = (
        rf'^this needs {name}, which is not installed; run: pip install "captioner\[{extra}\]"'
    )
    with pytest.raises(DependencyError, match=expected), explain_missing("this"):
        importlib.import_module(name)


def test_other_missing_modules_stay_import_errors():
    for name in ("captioner.unknown", "unknown_library"):
        with pytest.raises(ModuleNotFoundError, match=name), explain_missing("this"):
            importlib.import_module(name)


def test_a_library_belongs_to_one_extra():
    names = [name for names in EXTRAS.values() for name in names]
    assert len(names) == len(set(names))
