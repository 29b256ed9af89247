"""The results with which the page's TypeScript is compared are those of this package."""

from __future__ import annotations

import pytest
from web_fixtures import FOLDER, make_fixtures


@pytest.fixture(scope="module")
def fixtures() -> dict[str, str]:
    return make_fixtures()


@pytest.mark.parametrize("name", ["images.json", "questions.json", "unigram.json", "bpe.json"])
def test_the_stored_results_are_current(fixtures, name):
    assert (FOLDER / name).read_text(encoding="utf-8") == fixtures[name], (
        "run `python tests/web_fixtures.py`"
    )
