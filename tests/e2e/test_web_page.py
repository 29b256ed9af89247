"""The static page in a browser, with the bundled model, compared with the Python package."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kind_heads import IMAGES, add_kind_head
from PIL import Image
from tiny import make_checkpoint

pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from static_site import CHROMIUM, StaticSite, build_page, serve_site, stop_site

import captioner
from captioner.export.onnx_graphs import export_graphs
from captioner.export.website import write_site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here"),
]
EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "What color is the dog ?"
LOADING = 120_000
"""Milliseconds that loading the model may take on a busy machine."""
expect.set_options(timeout=LOADING)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the bundled checkpoint."""
    built = tmp_path_factory.mktemp("web")
    if problem := build_page(built / "dist"):
        pytest.skip(problem)
    write_site(built / "site", page=built / "dist")
    return built / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a site in a new profile.

    Requests to other hosts and errors of scripts fail the test.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_site(site: StaticSite, **options: object) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(LOADING)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        hosts = (site.url, f"blob:{site.url}")
        context.on(
            "request",
            lambda request: request.url.startswith(hosts) or problems.append(request.url),
        )
        page.goto(site.url)
        return page

    yield open_site
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def site(folder: Path) -> Iterator[StaticSite]:
    with serve_site(folder) as running:
        yield running


@pytest.fixture
def page(open_page: Callable[..., Page], site: StaticSite) -> Page:
    return open_page(site)


@pytest.fixture(scope="module")
def model() -> captioner.Captioner:
    return captioner.load()


def choose(page: Page, name: str, data: bytes) -> None:
    """Choose a file of this content on the page."""
    kind = "application/octet-stream"
    page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": data})


def expect_caption(page: Page, text: str) -> None:
    expect(page.locator("#caption .best")).to_have_text(text)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["beach", "dog"])
def test_captions_and_answers_are_those_of_python(page, model, name):
    path = EXAMPLES / f"{name}.jpg"
    (result,) = model.caption(path, num_captions=5)
    choose(page, path.name, path.read_bytes())
    expect_caption(page, result.text)
    others = page.locator("#others td:first-child").all_inner_texts()
    assert others == [caption.text for caption in result.captions[1:]]
    shown = page.locator("#caption .note").inner_text()
    assert shown.startswith("Confidence ")
    assert abs(int(shown.split()[1].strip("%")) - 100 * result.best.confidence) < 1
    page.get_by_label("Your question").fill(QUESTION)
    page.get_by_role("button", name="Ask").click()
    answers = model.ask(path, QUESTION, num_answers=3).answers
    expect(page.locator("#answer .best")).to_have_text(answers[0].text)
    for answer in answers[1:]:
        expect(page.locator("#answer")).to_contain_text(answer.text)


def test_turned_and_transparent_images_are_read_as_in_python(page, model, tmp_path):
    image = Image.open(EXAMPLES / "dog.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    mask = Image.linear_gradient("L").resize(image.size)
    clear = encode(Image.merge("RGBA", (*image.split(), mask)), "PNG")
    for name, data in (("turned.jpg", turned), ("clear.png", clear)):
        expected = model.caption(data)[0]
        choose(page, name, data)
        expect_caption(page, expected.text)


def test_a_blank_image_has_a_warning(page):
    choose(page, "blank.png", encode(Image.new("RGB", (90, 60), "gray"), "PNG"))
    expect(page.locator("#caption .alert")).to_contain_text("do not rely on the caption")


def test_an_image_that_is_no_photograph_has_a_notice(open_page, folder, tmp_path):
    checkpoint = add_kind_head(make_checkpoint(tmp_path / "best"))
    export_graphs(checkpoint)
    write_site(tmp_path / "site", checkpoint, page=folder.with_name("dist"))
    with serve_site(tmp_path / "site") as running:
        page = open_page(running)
        choose(page, "drawing.png", encode(IMAGES[4], "PNG"))
        notice = "This looks like a drawing, not a photograph; the caption may be wrong."
        expect(page.locator("#caption .alert")).to_have_text(notice)
        choose(page, "photograph.png", encode(IMAGES[0], "PNG"))
        expect_caption(page, captioner.load(checkpoint).caption(IMAGES[0])[0].text)
        expect(page.locator("#caption .alert")).to_have_count(0)


def test_the_page_works_without_a_connection(page, site, folder, model):
    expect(page.locator("#status")).to_have_text("The model is ready.")
    # The service worker is active as soon as it has stored the page; the model is stored by then,
    # or shortly afterwards.
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    count = len(list((folder / "model").iterdir()))
    page.wait_for_function(
        """async (count) => {
            const cache = await caches.open("captioner");
            const stored = await cache.keys();
            return stored.filter(({ url }) => url.includes("/model/")).length === count;
        }""",
        arg=count,
    )
    stop_site(site)
    page.reload()
    page.get_by_role("button", name="Try the dog").click()
    expect_caption(page, model.caption(EXAMPLES / "dog.jpg")[0].text)


def test_files_that_cannot_be_read_have_one_clear_message(page, model):
    jpeg = (EXAMPLES / "dog.jpg").read_bytes()
    large = encode(Image.new("1", (10_000, 6_000)), "PNG")
    cases = [
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(60), "is a HEIC image"),
        ("a.txt", b"some words", "not a known image. Expected JPEG, PNG"),
        ("cut.jpg", jpeg[: len(jpeg) // 2], "JPEG file cannot be decoded. It is damaged"),
        ("bad.png", encode(Image.new("RGB", (9, 9)), "PNG")[:40] + b"IEND", "PNG file cannot be"),
        ("large.png", large, "(60 megapixels); the limit is 60"),
    ]
    for name, data, message in cases:
        choose(page, name, data)
        expect(page.locator("#caption-error")).to_contain_text(message)
        expect(page.locator("#caption")).to_have_text("")
    choose(page, "dog.jpg", jpeg)
    expect_caption(page, model.caption(jpeg)[0].text)
    expect(page.locator("#caption-error")).to_be_empty()
    questions = (("?", "Type a question"), ("?!", "ask in words"), ("w " * 60, "at most 32"))
    for question, message in questions:
        page.get_by_label("Your question").fill(question)
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#question-error")).to_contain_text(message)


def test_damaged_and_missing_model_files_have_one_clear_message(open_page, site):
    cases: list[tuple[str, int | None, str]] = [
        ("model.safetensors", 1000, "model.safetensors is incomplete: 1000 of"),
        ("image.onnx", None, "image.onnx cannot be loaded (status 404)"),
        ("model.json", None, "model.json cannot be loaded (status 404)"),
        ("model.json", 50, "model.json does not describe a model of this page"),
    ]
    for name, length, message in cases:
        site.cut, site.missing = ({}, {name}) if length is None else ({name: length}, set())
        page = open_page(site)
        expect(page.locator("#load-error")).to_contain_text(message)
        expect(page.locator("#loading")).to_be_hidden()


def test_a_browser_without_webassembly_has_one_clear_message(browser, site):
    page = browser.new_page()
    page.add_init_script("delete window.WebAssembly")
    page.goto(site.url)
    expect(page.locator("#load-error")).to_contain_text("This browser has no WebAssembly")
    page.close()


def test_the_keyboard_reaches_everything(page, model):
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert order == ["file", "camera", "Try the beach", "Try the dog"]
    page.keyboard.press("Enter")
    text = model.caption(EXAMPLES / "dog.jpg")[0].text
    expect_caption(page, text)
    words = page.get_by_role("group", name="Words")
    expect(words.get_by_role("button")).to_have_text(text.split())
    page.keyboard.press("Tab")
    expect(words.get_by_role("button").first).to_be_focused()
    expect(page.locator("#heat")).to_be_visible()
    expect(page.locator("#attention-note")).to_contain_text(f"Attention for “{text.split()[0]}”")
    page.keyboard.press("Space")
    expect(words.get_by_role("button", pressed=True)).to_have_count(1)
    for _ in text.split():
        page.keyboard.press("Tab")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("is it a dog?")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .best")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_does_not_scroll_sideways(open_page, site, scheme):
    size = {"width": 360, "height": 740}
    page = open_page(site, viewport=size, color_scheme=scheme, has_touch=True)
    page.get_by_role("button", name="Try the dog").click()
    word = page.locator("#words button").first
    top = "element => element.getBoundingClientRect().top + scrollY"
    place = word.evaluate(top)
    word.tap()
    expect(page.locator("#heat")).to_be_visible()
    assert word.evaluate(top) == place, "the words move when a map is shown"
    page.get_by_label("Your question").fill("what color is it?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer .best")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped(page, model, event):
    data = (EXAMPLES / "beach.jpg").read_bytes()
    page.evaluate(
        """([kind, text]) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "image.jpg"));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(kind === "paste"
                ? new ClipboardEvent(kind, { clipboardData: data, ...options })
                : new DragEvent(kind, { dataTransfer: data, ...options }));
        }""",
        [event, base64.b64encode(data).decode()],
    )
    expect_caption(page, model.caption(data)[0].text)


def test_a_photo_is_taken_or_cancelled(page):
    dialog = page.get_by_role("dialog", name="Camera")
    page.get_by_role("button", name="Use the camera").click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#figure")).to_be_hidden()
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
    dialog.get_by_role("button", name="Take the photo").click()
    expect(page.locator("#caption .best")).to_be_visible()
    expect(page.locator("#figure")).to_be_visible()


def test_the_content_security_policy_is_enough_for_the_worker(open_page, site, model):
    """A host may send the policy as a header, which also applies to the worker."""
    html = (Path(site.server.RequestHandlerClass.keywords["directory"]) / "index.html").read_text()
    policy = html.partition('content="default-src')[2].partition('"')[0]
    site.headers = {"Content-Security-Policy": f"default-src{policy}"}
    page = open_page(site)
    page.get_by_role("button", name="Try the dog").click()
    expect_caption(page, model.caption(EXAMPLES / "dog.jpg")[0].text)
