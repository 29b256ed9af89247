"""The page of a model of recordings, in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")
pytest.importorskip("soundfile")
pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
from bad_recordings import TONE, write
from playwright.sync_api import Page, expect, sync_playwright
from serving import FakeListener, start_in_thread

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
"""The microphone records beeps, without asking."""


@pytest.fixture
def page() -> Iterator[Page]:
    with (
        start_in_thread(FakeListener(), page=True) as server,
        sync_playwright() as started,
        started.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        result, errors = browser.new_page(), []
        result.on("pageerror", lambda error: errors.append(str(error)))
        result.goto(server.url)
        result.locator("#audio").wait_for()
        yield result
        assert errors == []


def test_a_file_and_the_microphone_are_captioned(page, tmp_path: Path) -> None:
    good, bad = tmp_path / "tone.wav", tmp_path / "bad.wav"
    good.write_bytes(write(TONE))
    bad.write_bytes(b"just text")
    expect(page.locator("#image")).to_have_count(0)
    upload, best = page.locator("#audio input[type=file]"), page.locator("#caption .best")
    upload.set_input_files(good)
    expect(best).to_have_text("16000 samples at 16000 up to 0.50")
    expect(page.locator("#words label")).to_have_count(0)
    page.get_by_label("Your question").fill("what is it")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#answer .best")).to_contain_text("what is it")

    page.locator("#audio button[aria-label=Clear]").click()
    expect(best).to_have_count(0)
    upload.set_input_files(bad)
    expect(page.locator("#error .alert")).to_contain_text("This file is text; expected WAV")

    page.get_by_label("Record audio").click()
    page.locator("#audio .record-button").click()
    page.wait_for_timeout(1500)
    page.locator("#audio .stop-button").click()
    expect(best).to_contain_text("samples at 16000")
    expect(page.locator("#error .alert")).to_have_count(0)
