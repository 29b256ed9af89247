"""The names and signatures that users of the package see."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import captioner
from captioner import errors
from captioner.predict import Captioner
from captioner.predict.options import DECODING


def test_every_error_is_exported():
    kinds = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert set(kinds) <= set(captioner.__all__)
    assert all(getattr(captioner, name) is getattr(errors, name) for name in kinds)


def test_exported_names_exist_and_are_sorted():
    assert sorted(captioner.__all__) == list(captioner.__all__)
    assert all(getattr(captioner, name) is not None for name in captioner.__all__)


@pytest.mark.slow
def test_importing_the_package_imports_no_library():
    code = (
        "import sys, captioner; heavy = {'torch', 'PIL', 'numpy', 'yaml'} & set(sys.modules);"
        " assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["caption", "caption_stream", "stream"])
def test_decoding_options_are_explicit_parameters(name):
    parameters = inspect.signature(getattr(Captioner, name)).parameters
    for option in DECODING:
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[option].default is None
    assert set(parameters) - set(DECODING) <= {
        *("self", "images", "image", "num_captions", "batch_size", "question"),
    }
