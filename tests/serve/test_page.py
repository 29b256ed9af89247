"""The page in a browser, against a `serve.py` process."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from kind_heads import IMAGES, add_kind_head
from tiny import make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

pytest.importorskip("gradio")
pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from serving import start_process

import captioner
from captioner.config import load_config, save_config

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]
Q, R = QUESTIONS[:2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images in several formats, one of them damaged."""
    result = tmp_path_factory.mktemp("pictures")
    picture(3, size=(200, 150)).save(result / "a.jpg")
    picture(4, size=(90, 160)).save(result / "b.tif")
    (result / "bad.jpg").write_bytes(b"\xff\xd8\xff, but <b>no</b> more")
    return result


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The server, its `model` in this process, and its folder of `corrections`."""
    made = tmp_path_factory.mktemp("served")
    checkpoint = make_vqa_checkpoint(made / "best")
    # Without a prefix, the captions of this model have one word.
    config = load_config(checkpoint / "config.yaml")
    decoding = dataclasses.replace(config.decoding, prefix="a red dog by", max_length=12)
    save_config(dataclasses.replace(config, decoding=decoding), checkpoint / "config.yaml")
    words = (
        "--checkpoint",
        checkpoint,
        "--dtype",
        "float32",
        "--corrections",
        made / "corrections",
    )
    with start_process(*words) as running:
        running.corrections = made / "corrections"
        running.model = captioner.load(checkpoint)
        yield running
    assert running.process.returncode == 0
    assert "Traceback" not in running.log


@pytest.fixture
def page(browser, server) -> Iterator[Page]:
    """The open page; requests to other hosts and errors of scripts fail the test."""
    result, wrong = browser.new_page(), []
    result.on("request", lambda r: wrong.append(r.url) if is_external(r.url, server.url) else None)
    result.on("pageerror", lambda error: wrong.append(str(error)))
    result.goto(server.url)
    result.get_by_role("heading", name="Captioner").wait_for()
    yield result
    result.close()
    assert not wrong


def is_external(url: str, own: str) -> bool:
    return not url.startswith((own, "data:", "blob:"))


def choose(page: Page, path: Path) -> None:
    page.locator("#image input[type=file]").set_input_files(path)


def caption_text(page: Page) -> str:
    """Wait until the caption is shown, and return it."""
    return page.locator("#caption .best").inner_text()


def error_text(page: Page) -> str:
    return page.locator("#error .alert").inner_text()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#answer", has_text=question).wait_for()


def image_size(image: Locator) -> tuple[int, int]:
    """Wait until the browser shows an image; return its width and height."""
    image.wait_for()
    image.evaluate("image => image.decode()")
    return tuple(image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))


def test_image_is_captioned_and_words_show_their_attention(page, server, folder) -> None:
    (expected,) = server.model.caption([folder / "a.jpg"], num_captions=3)
    # Two processes may order captions of nearly equal probability differently.
    upload = {"image": (folder / "a.jpg").read_bytes()}
    states = httpx.post(f"{server.url}/v1/caption", files=upload, data={"num_captions": 3}).json()
    choose(page, folder / "a.jpg")
    assert caption_text(page) == expected.text
    assert "Confidence" in page.locator("#caption").inner_text()
    others = page.locator("#caption tbody td:first-child").all_inner_texts()
    assert len(set(others)) == 2
    assert others == [caption["caption"] for caption in states["captions"][1:]]
    assert page.locator("#image img").get_attribute("alt") == expected.text
    words = page.locator("#words label")
    assert words.all_inner_texts() == expected.text.split()
    for place in (1, 2):
        words.nth(place).click()
        word = expected.text.split()[place]
        width, height = image_size(page.locator(f"#attention img[alt*='“{word}”']"))
        assert width / height == pytest.approx(200 / 150, rel=0.02)


def test_questions_are_answered_and_kept_on_the_page(page, server, folder) -> None:
    choose(page, folder / "a.jpg")
    caption_text(page)
    for question in (Q, R):
        ask(page, question)
        expected = server.model.ask(folder / "a.jpg", question)
        assert page.locator("#answer .best").inner_text() == expected.text
    ask(page, f" {Q}")
    earlier = page.locator("#earlier tbody td:first-child").all_inner_texts()
    assert earlier == [R, Q]
    assert page.locator("#answer [aria-live=polite]").count() == 1
    ask_button = page.get_by_role("button", name="Ask", exact=True)
    page.get_by_label("Your question").fill("  ")
    ask_button.click()
    page.locator("#question-error .alert").wait_for()


def test_settings_change_the_caption_or_show_an_error(page, server, folder) -> None:
    choose(page, folder / "a.jpg")
    first = caption_text(page)
    page.get_by_role("button", name="Settings").click()
    again = page.get_by_role("button", name="Caption again")
    word = first.split()[-1]
    page.get_by_label("Must not include").fill(f"{word}, zebra")
    again.click()
    best = page.locator("#caption .best")
    expect(best).not_to_have_text(first)
    (expected,) = server.model.caption([folder / "a.jpg"], num_captions=3, banned=[word, "zebra"])
    assert caption_text(page) == expected.text
    page.get_by_label("Must include").fill(word)
    again.click()
    assert word in error_text(page)
    page.get_by_label("Sample captions at random").check()
    page.get_by_label("Must not include").fill("")
    page.get_by_label("Seed").fill("7")
    again.click()
    options = {"method": "sample", "seed": 7, "num_captions": 3}
    drawn = server.model.caption([folder / "a.jpg"], **options)[0].text
    expect(best).to_have_text(drawn)
    expect(page.locator("#error .alert")).to_have_count(0)


def test_bad_file_shows_one_sentence(page, server, folder) -> None:
    choose(page, folder / "bad.jpg")
    result = error_text(page)
    assert result.removeprefix("⚠ ").startswith("This file cannot be decoded")
    assert "Error" not in result
    choose(page, folder / "b.tif")
    assert caption_text(page) == server.model.caption([folder / "b.tif"])[0].text
    # Browsers do not show TIFF; the page shows a converted image.
    width, height = image_size(page.locator("#image img"))
    assert width / height == pytest.approx(90 / 160, rel=0.02)
    assert page.locator("#error .alert").count() == 0


def test_many_images_become_a_table_and_two_files(page, server, folder) -> None:
    page.get_by_role("tab", name="Many images").click()
    files = sorted(folder.iterdir())
    page.locator("#files input[type=file]").set_input_files(files)
    page.locator("#files").get_by_text("bad").first.wait_for()
    page.get_by_role("button", name="Caption all").click()
    page.locator("#table table").wait_for()
    cells = page.locator("#table tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    captions = [result.error or result.text for result in server.model.caption(files)]
    assert [row[0] for row in cells] == [path.name for path in files]
    assert [row[1] for row in cells[:2]] == captions[:2]
    assert "cannot be decoded" in cells[2][1]
    saved = {}
    for kind in ("CSV", "JSONL"):
        with page.expect_download() as download:
            page.get_by_text(f"Download {kind}").click()
        saved[kind] = Path(download.value.path()).read_text("utf-8")
    table = list(csv.DictReader(saved["CSV"].splitlines()))
    rows = [json.loads(line) for line in saved["JSONL"].splitlines()]
    for actual in (table, rows):
        assert [row["file"] for row in actual] == [path.name for path in files]
        assert [row["caption"] for row in actual[:2]] == captions[:2]
        assert all(0 < float(row["confidence"]) <= 1 for row in actual[:2])
        assert "cannot be decoded" in actual[2]["error"]


def test_corrected_caption_becomes_a_training_row(page, server, folder, read) -> None:
    choose(page, folder / "a.jpg")
    text = page.get_by_label("Correct the caption if it is wrong")
    expect(text).to_have_value(caption_text(page))
    for caption in ("a wrong caption", "a corrected caption"):
        text.fill(caption)
        page.get_by_role("button", name="Save correction").click()
        expect(page.locator("#saved")).to_contain_text("Saved")
        page.wait_for_timeout(200)
    ((example,), _) = read(server.corrections)
    assert example.references == ("a corrected caption",)
    assert Path(example.image).read_bytes() == (folder / "a.jpg").read_bytes()


def test_page_works_with_the_keyboard(page) -> None:
    def tab_to(name: str) -> None:
        label = "e => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.value || ''"
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"({label})(document.activeElement).trim()") == name:
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("Try the dog")
    page.keyboard.press("Enter")
    words = caption_text(page).split()
    tab_to(words[1])  # in Gradio, each radio button is a tab stop
    page.keyboard.press("Space")
    image_size(page.locator(f"#attention img[alt*='“{words[1]}”']"))
    tab_to("Your question")
    page.keyboard.type(Q)
    page.keyboard.press("Enter")
    page.locator("#answer .best").wait_for()
    tab_to("Save correction")
    page.keyboard.press("Space")
    page.locator("#saved .note").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_needs_no_horizontal_scrolling(browser, server, folder, scheme) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme=scheme)
    page.goto(server.url)
    choose(page, folder / "a.jpg")
    caption_text(page)
    page.locator("#words label").first.click()
    image_size(page.locator("#attention img"))
    for question in (Q, R):
        ask(page, question)
    page.get_by_role("button", name="Settings").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("tab", name="Many images").click()
    page.get_by_role("button", name="Caption all").click()
    page.locator("#files-error .alert").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert int(red) < 50 if scheme == "dark" else int(red) > 200
    page.close()


def test_controls_have_names_and_headings_are_in_order(page, folder) -> None:
    choose(page, folder / "a.jpg")
    caption_text(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Must include").wait_for()
    assert page.title() == "Captioner"
    assert page.locator("html").get_attribute("lang") == "en"
    names = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea")]
        .filter(e => e.checkVisibility() && e.type != "file")
        .map(e => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.title)"""
    )
    assert len(names) > 15
    assert all(name and name.strip() for name in names)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")
    assert levels == ["H1", "H2", "H2", "H2"]
    assert page.locator("img:not([alt])").count() == 0


def test_captioning_model_hides_questions_and_open_pages_do_not_block_shutdown(
    browser, tmp_path, folder
) -> None:
    checkpoint = make_checkpoint(tmp_path / "best")
    page = browser.new_page()
    with start_process("--checkpoint", checkpoint) as server:
        page.goto(server.url)
        choose(page, folder / "a.jpg")
        caption_text(page)
        page.get_by_text("This model writes captions only").wait_for()
        assert page.get_by_label("Your question").count() == 0
        start = time.monotonic()
    assert time.monotonic() - start < 4
    assert server.process.returncode == 0
    assert "ERROR" not in server.log
    page.close()


def test_images_that_are_no_photographs_have_a_notice(browser, tmp_path) -> None:
    for number, image in enumerate(IMAGES):
        image.save(tmp_path / f"{number}.png")
    page = browser.new_page()
    with start_process("--checkpoint", add_kind_head(make_checkpoint(tmp_path / "best"))) as server:
        page.goto(server.url)
        choose(page, tmp_path / "4.png")
        notice = "⚠ This looks like a drawing, not a photograph; the caption may be wrong."
        expect(page.locator("#caption .alert")).to_have_text(notice)
        page.reload()
        choose(page, tmp_path / "0.png")
        assert caption_text(page)
        assert page.locator("#caption .alert").count() == 0
        page.close()


def test_browser_sends_the_token_as_a_password(browser, tmp_path, folder) -> None:
    (tmp_path / "token").write_text("secret\n")
    checkpoint = make_checkpoint(tmp_path / "best")
    with start_process("--checkpoint", checkpoint, "--token-file", tmp_path / "token") as server:
        assert server.client.get("/").status_code == 401
        known = {"username": "any", "password": "secret"}
        page = browser.new_page(http_credentials=known)
        page.goto(server.url)
        choose(page, folder / "a.jpg")
        assert caption_text(page)
        page.close()


def test_files_of_the_server_are_not_accepted_as_uploads(tmp_path, folder) -> None:
    with start_process("--checkpoint", make_checkpoint(tmp_path / "best")) as server:
        for path in (str(folder / "a.jpg"), "https://example.org/a.jpg"):
            upload = {"path": path, "meta": {"_type": "gradio.FileData"}}
            for uploads in ([upload, None], [None, upload]):  # as an image and as a recording
                assert not forge_uploads(server.client, uploads)["success"]


def forge_uploads(client: httpx.Client, uploads: list[dict | None]) -> dict:
    """Return the result of an event whose image and recording were forged by a program."""
    config = client.get("/config").json()
    names = ["input", "input", "clear"]
    event = next(e for e in config["dependencies"] if [t[1] for t in e["targets"]] == names)
    data = [*uploads, 3, 5, 0, 8, "", "", False, 1, 1, 0]
    request = {"data": data, "fn_index": event["id"], "session_hash": "test"}
    assert client.post("/gradio_api/queue/join", json=request).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data?session_hash=test") as lines:
        done = next(line for line in lines.iter_lines() if "process_completed" in line)
    return json.loads(done.removeprefix("data: "))
