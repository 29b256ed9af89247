"""Parts of the page without a browser: HTML, settings, tables and files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from tiny import picture

pytest.importorskip("gradio")
from gradio import processing_utils
from serving import FakeCaptioner

from captioner.errors import CaptionerError, ConfigError, ImageError
from captioner.predict.results import Answer, Answers, Caption, Result
from captioner.serve.engine import Engine
from captioner.serve.page import file_table, html
from captioner.serve.page.components import EXAMPLES, check_upload, create_folder, text_box
from captioner.serve.page.file_table import Row, caption_files
from captioner.serve.page.handlers import EMPTY_PAGE, PageHandlers
from captioner.serve.page.search_settings import read_settings
from captioner.serve.settings import Settings

ROWS = [
    Row("a,b.jpg", 'a "dog", running', 0.75, False),
    Row("ü.png", "ein Hund", 0.5, True),
    Row("bad.jpg", error="This file is empty."),
]
PLAIN = (3, 5, 0, 30, "dog|dogs, green grass", " ", False, 1.5, 0.5, 7)


def test_exported_files_can_be_read_back() -> None:
    table = list(csv.DictReader(io.StringIO(file_table.to_csv(ROWS))))
    rows = [json.loads(line) for line in file_table.to_jsonl(ROWS).splitlines()]
    for result in (table, rows):
        assert [row["file"] for row in result] == [row.file for row in ROWS]
        assert [row.get("caption", "") for row in result] == [row.caption for row in ROWS]
        assert [float(row["confidence"]) for row in result[:2]] == [0.75, 0.5]
    assert table[2] == dict.fromkeys(table[2], "") | {"file": "bad.jpg", "error": ROWS[2].error}
    assert rows[2] == {"file": "bad.jpg", "error": ROWS[2].error}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ImageError("<bytes>: is empty; get an intact copy"),
            "This file is empty; get an intact copy.",
        ),
        (
            ImageError("<bytes>: cannot be decoded (E: (1) 2); it is damaged, use another copy"),
            "This file cannot be decoded; it is damaged, use another copy.",
        ),
        (ConfigError("decoding.top_p=2: expected a share"), "Top_p=2: expected a share."),
        (CaptionerError("the model is being loaded"), "The model is being loaded."),
    ],
)
def test_error_messages_are_sentences(error, expected) -> None:
    assert file_table.format_error(error) == expected


def test_texts_are_escaped() -> None:
    bad = "<img src=x onerror=alert(1)> ${value} {{value}}"
    result = Result((Caption(bad, -0.5, 0.6), Caption(bad, -1.0, 0.4)), low_confidence=True)
    answers = Answers((Answer(bad, 0.5), Answer(bad, 0.25)))
    shown = html.format_caption(result) + html.format_answer(bad, answers)
    shown += html.format_history([(bad, answers)]) + html.format_files([Row(bad, error=bad)])
    shown += html.format_alert(bad) + html.format_note(bad)
    assert not [piece for piece in ("<img", "$", "{") if piece in shown]
    assert html.NOTHING_SEEN in shown
    assert shown.count("&lt;img") == 11


@pytest.mark.parametrize(
    ("kind", "phrase"), [("icon", "an icon"), ("text", "text"), ("blank", "a blank image")]
)
def test_the_kind_of_an_image_is_shown(kind, phrase) -> None:
    notice = f"This looks like {phrase}, not a photograph; the caption may be wrong."
    caption = Caption("a dog", -0.5, 0.6)
    assert notice in html.format_caption(Result((caption,), kind=kind))
    content = html.format_caption(Result((caption,), kind=kind, low_confidence=True))
    assert html.NOTHING_SEEN in content
    assert notice not in content
    assert "alert" not in html.format_caption(Result((caption,), kind="photograph"))
    rows = [Row("a.png", "a dog", 0.6, False, kind), Row("b.png", "a dog", 0.6, False)]
    assert html.format_files(rows).count(f"(looks like {phrase})") == 1


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "under 1%"), (0.456, "46%"), (0.99, "99%"), (1.0, "over 99%")]
)
def test_percentages_are_between_0_and_100_exclusive(share, expected) -> None:
    assert html.format_percent(share) == expected


def test_page_settings_become_decoding_options() -> None:
    count, result = read_settings(PLAIN, max_length=32)
    assert count == 3
    assert result == {
        "method": "beam",
        "beam_size": 5,
        "min_length": 0,
        "max_length": 30,
        "must_include": ("dog|dogs", "green grass"),
        "banned": (),
    }
    _, result = read_settings((*PLAIN[:6], True, 1.5, 0.5, None), max_length=8)
    assert result == {
        "method": "sample",
        "temperature": 1.5,
        "top_p": 0.5,
        "seed": 0,
        "min_length": 0,
        "max_length": 8,
        "banned": (),
    }
    with pytest.raises(CaptionerError, match="num_captions"):
        read_settings((1000, *PLAIN[1:]), max_length=32)


def test_beam_size_is_at_least_the_number_of_captions() -> None:
    for captions, beams, used in ((3, 5, 5), (5, 3, 5), (4, 4, 4)):
        count, result = read_settings((captions, beams, *PLAIN[2:]), max_length=32)
        assert (count, result["beam_size"]) == (captions, used)
    with pytest.raises(CaptionerError, match="beam_size"):
        read_settings((3, "many", *PLAIN[2:]), max_length=32)


def test_many_files_wait_for_slots_and_bad_files_do_not_stop_them(tmp_path, monkeypatch) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    paths[2].write_bytes(b"<html>")
    paths[4].unlink()
    monkeypatch.setattr(file_table, "RETRY_SECONDS", 0.01)
    done = []

    async def whole() -> list[Row]:
        engine = Engine(FakeCaptioner, Settings(max_requests=1))
        engine.start()
        while not engine.ready:
            await asyncio.sleep(0.01)
        try:
            return await caption_files(engine, paths, {}, done.append)
        finally:
            await engine.close()

    rows = asyncio.run(whole())
    assert [row.file for row in rows] == [path.name for path in paths]
    assert [bool(row.error) for row in rows] == [False, False, True, False, True, False]
    assert all(row.caption.startswith("red") for row in rows if not row.error)
    assert sorted(done) == [1, 2, 3, 4, 5, 6]


def test_page_reports_that_the_model_is_loading() -> None:
    async def whole() -> tuple[dict, list[dict]]:
        page = PageHandlers(Engine(FakeCaptioner, Settings()))
        for name in (*EMPTY_PAGE, "status", "files_error", "beam_size", "min_length", "max_length"):
            page.parts[name] = name
        one = await page.show_example("a.jpg", *PLAIN)
        many = await page.caption_uploads([{}], *PLAIN)
        opened, states = page.load_page(), []
        states.append(await anext(opened))
        page.engine.captioner = FakeCaptioner()
        states.append(await anext(opened))
        return one | many, states

    changed, states = asyncio.run(whole())
    assert changed["image"] is None
    assert all("being loaded" in changed[name] for name in ("error", "files_error"))
    assert "being loaded" in states[0]["status"]
    assert states[1]["status"] == ""


def test_url_instead_of_an_upload_is_not_fetched(tmp_path) -> None:
    work = processing_utils.async_ssrf_protected_download("https://example.org/a", str(tmp_path))
    with pytest.raises(ValueError, match="no URLs"):
        asyncio.run(work)


def test_text_boxes_have_no_maximum_length() -> None:
    assert text_box("Question", "").max_length is None


def test_download_folders_are_in_the_upload_folder() -> None:
    first, second = Path(create_folder()), Path(create_folder())
    assert first != second
    assert first.parent.name.startswith("captioner-page-")


def test_only_uploads_and_examples_are_allowed(tmp_path) -> None:
    path = Path(create_folder()) / "a.jpg"
    assert check_upload(str(path)) == str(path.resolve())
    assert [check_upload(str(path)) for path in EXAMPLES] == [str(path) for path in EXAMPLES]
    for other in (None, "", "a.jpg", str(tmp_path / "a.jpg"), f"{create_folder()}/../../a.jpg"):
        with pytest.raises(CaptionerError, match="choose it again"):
            check_upload(other)
