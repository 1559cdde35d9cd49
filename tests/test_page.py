"""A page: it is one file that needs no other, it escapes what it is given, and a failed write leaves nothing behind."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.report import figures
from experiments.report.page import Page, link
from jsnn import plot

VOID = {"meta", "link", "img"}


class Reader(HTMLParser):
    """Reads a page: its elements, and whether each is closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def drawn():
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot([1, 2])
    return figure


@pytest.fixture
def page():
    page = Page("A <b>title</b>", "with a lead & more")
    page.warn("2_LIF is <dead>")
    page.section("Result & more")
    page.table(
        [{"metric": "accuracy", "value": "97.2%"}, {"metric": "<i>", "other": link("a<b", "b/report.html")}], "<c>"
    )
    page.figure("first", drawn(), "a <caption>", 'an "alt"')
    page.figure("second", drawn(), "another", "line")
    page.section("Result & more")
    page.facts({"command": "python -m <x>", "missing": None})
    page.code('{"a": "</pre><script>alert(1)</script>"}', "config.json")
    return page


def test_names_of_classes_are_no_formulas():
    names = ["$\\broken{$", "<b>"]
    page = Page("Classes")
    targets = np.array([0, 1, 1])
    page.figure(
        "confusion", figures.draw(plot.confusion_matrix, targets, targets, class_names=names), "confusion", "confusion"
    )
    page.figure("pictures", figures.pictures(np.zeros((2, 4, 4, 1)), names), "pictures", "pictures")
    for name, function in (("probabilities", plot.class_probabilities), ("outputs", plot.output_traces)):
        page.figure(name, figures.draw(function, np.eye(2), target=0, class_names=names), name, name)
    assert len(Reader(page.html()).all("img")) == 4


def test_everything_is_escaped_but_links(page):
    html, read = page.html(), Reader(page.html())
    assert "<script" not in html
    assert "<b>" not in html
    text = "".join(read.text)
    for piece in ("A <b>title</b>", "2_LIF is <dead>", "<i>", "<c>", "a <caption>", "python -m <x>", "</pre><script>"):
        assert piece in text
    assert read.all("img")[0]["alt"] == 'an "alt"'
    assert {"href": "b/report.html"} in read.all("a")
    assert "missing" not in text


def test_the_page_needs_nothing_beside_it(page):
    read = Reader(page.html())
    sources = [image["src"] for image in read.all("img")]
    assert len(sources) == 2
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"
    assert not read.all("script")
    assert all(item["href"].startswith("data:") for item in read.all("link"))
    assert not re.search(r"url\(|@import|https?://", page.html())


def test_the_head_serves_phones_and_readers(page):
    read = Reader(page.html())
    assert read.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")
    assert all({"width", "height", "alt"} <= set(image) for image in read.all("img"))
    assert read.all("img")[0]["width"] == "384"  # 4 inches
    assert "@media print" in page.html()
    assert "prefers-color-scheme: dark" in page.html()


def test_the_contents_lead_to_every_section(page):
    read = Reader(page.html())
    targets = [section["id"] for section in read.all("section") if "id" in section]
    assert targets == ["result-more", "result-more--2"]
    assert [anchor["href"] for anchor in read.all("a")][:2] == [f"#{target}" for target in targets]


def test_columns_are_the_names_in_the_rows():
    page = Page("t")
    page.table([{"a": 1, "b": 0.123456}, {"a": 22, "c": None}])
    read = Reader(page.html())
    assert [text for text in read.text if text.strip()][-6:] == ["a", "b", "c", "1", "0.1235", "22"]
    assert [cell.get("class") for cell in read.all("th")][:2] == ["number", "number"]


def test_files_of_figures(tmp_path):
    frames = [Image.fromarray(np.full((20, 30), level, np.uint8)) for level in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png")
    page = Page("t")
    page.figure("a", tmp_path / "a.gif", "moves", "two frames")
    page.figure("b", tmp_path / "b.png", "stands", "black")
    gif, png = Reader(page.html()).all("img")
    assert (gif["width"], gif["height"]) == ("30", "20")
    assert base64.b64decode(gif["src"].removeprefix("data:image/gif;base64,")) == (tmp_path / "a.gif").read_bytes()
    assert png["src"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("name", "alt", "error", "match"),
    [
        ("a.svg", "a", ValueError, r"must be \.png or \.gif, got .*a\.svg"),
        ("a.png", " ", ValueError, "alt must say what the figure shows, got ' '"),
        ("a.png", "a", FileNotFoundError, r"a\.png"),
    ],
)
def test_figures_that_cannot_be_shown(tmp_path, name, alt, error, match):
    with pytest.raises(error, match=match):
        Page("t").figure("x", tmp_path / name, "", alt)


def test_a_page_is_written_whole_or_not_at_all(page, tmp_path):
    page.write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.html()
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "figures"}

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("")
    with pytest.raises(OSError, match="folder"):
        page.write(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        page.write(tmp_path / "nowhere" / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "figures", "folder"}
