"""The HTML report and findings.jsonl."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from quality_data import caption, write_set

from captioner.quality.audit import check_dataset
from captioner.quality.findings import KINDS, Finding, quote, sort_findings, summarize
from captioner.quality.findings_page import PAGE, ROWS, SHOWN, write_report

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")

ATTACK = 'A <script>alert("x")</script> dog near the tree on a sunny day .'


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_texts_are_escaped_and_the_page_needs_no_other_file(tmp_path):
    path = write_set(tmp_path, changes={3: {"captions": [caption(6), ATTACK]}})
    audit = check_dataset(path, processes=1)
    page = write_report(audit, tmp_path / "report" / "new")
    text = page.read_text("utf-8")
    parsed = Page(text)
    assert page.name == PAGE
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text
    assert parsed.find("html") == [{"lang": "en"}]
    images = parsed.find("img")
    assert images
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert {link["href"] for link in parsed.find("a")} == {f"#{f.kind}" for f in audit.findings}
    assert {s["id"] for s in parsed.find("section")} == {f.kind for f in audit.findings}


def test_all_findings_are_in_the_file_and_few_on_the_page(tmp_path):
    path = write_set(tmp_path, changes={i: {"captions": ["", caption(i)]} for i in range(30)},
                     extra=[{"image": "images/1.jpg", "caption": " "}] * 20)  # fmt: skip
    audit = check_dataset(path, processes=1)
    write_report(audit, tmp_path / "report")
    rows = list(map(json.loads, (tmp_path / "report" / ROWS).open()))
    assert len(rows) == len(audit.findings) > SHOWN
    assert {row["kind"] for row in rows} == {"empty-caption"}
    page = Page((tmp_path / "report" / PAGE).read_text("utf-8"))
    assert len(page.find("li")) == SHOWN


def test_text_that_is_not_unicode_is_escaped(tmp_path):
    path = write_set(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"image": "images/1.jpg", "caption": "caf\xe9"}\n')
    write_report(check_dataset(path, processes=1), tmp_path)
    assert "dropped-row" in (tmp_path / ROWS).read_text("utf-8")


def test_findings_are_sorted_and_summarized():
    findings = [Finding(kind, "x") for kind in ("markup", "tiny-image", "markup")]
    ordered = sort_findings(findings)
    assert [f.kind for f in ordered] == ["tiny-image", "markup", "markup"]
    assert [line.split()[:2] for line in summarize(ordered).splitlines()] == [
        ["tiny-image", "1"],
        ["markup", "2"],
    ]
    assert quote("a\n b " * 40).endswith('..."')
    assert all(kind.meaning.endswith(".") for kind in KINDS.values())
