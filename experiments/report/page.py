"""A page of text, tables and figures in one HTML file, which needs nothing beside it and no network."""

import base64
import io
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from experiments.files import write_whole
from jsnn.files import as_path

_CSS_PIXELS = 96  # to an inch
_SHARPNESS = 1.75  # pixels of a drawn figure to a CSS pixel: screens are finer than 96 dpi
DPI = _CSS_PIXELS * _SHARPNESS  # at which a figure is drawn
_TYPES = {".png": "image/png", ".gif": "image/gif"}


class Page:
    """A page that is written from top to bottom, and saved as one file.

    Consecutive figures of a section stand beside each other where there is room. All text is escaped, except what
    `link` makes.

    Args:
        title: of the page and its heading.
        lead: a sentence below the heading.

    Examples:
        >>> page = Page("Digits", "97% of the test set.")
        >>> page.section("Result")
        >>> page.table([{"metric": "accuracy", "value": "97%"}])
        >>> page.warn("2_LIF is dead.")
        >>> "<td>accuracy</td>" in page.html()
        True
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title, self.lead = title, lead
        self._sections = [_Section("", "", [])]  # what comes before the first heading
        self._files: dict[str, bytes] = {}  # beside the page, by name

    def section(self, title: str, text: str = "") -> None:
        """Begin a section, which the table of contents lists, with a paragraph if there is a text."""
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        same = sum(section.slug == slug or section.slug.startswith(f"{slug}--") for section in self._sections)
        self._sections.append(_Section(title, f"{slug}--{same + 1}" if same else slug, []))
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add("text", text=text)

    def warn(self, text: str) -> None:
        """Add a paragraph that nobody should overlook."""
        self._add("warning", text=text)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Add names with their values, one below the other; those that are None are left out."""
        self._add("facts", facts={name: _cell(value) for name, value in facts.items() if value is not None})

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
        """Add a table: its columns are the names in the rows, in their order; a wide one scrolls in its own box."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_cell(row.get(name)) for name in columns] for row in rows]
        values = [[row[name] for row in rows if row.get(name) not in (None, "")] for name in columns]
        numeric = [all(isinstance(value, Real) or _looks_numeric(value) for value in column) for column in values]
        self._add("table", columns=columns, rows=cells, numeric=numeric, caption=caption)

    def figure(self, name: str, figure: Figure | Path, caption: str, alt: str) -> None:
        """Add a figure, or the file of one, which becomes part of the page.

        Args:
            name: of its file in `figures/`, beside the page.
            figure: what matplotlib has drawn, or a .png or .gif file.
            caption: says what is to be seen.
            alt: says it to those who cannot see it.

        Raises:
            ValueError: if `alt` is empty, or the file is of another type.
        """
        if not alt.strip():
            raise ValueError(f"alt must say what the figure shows, got {alt!r}")
        image, data = _embed(figure)
        if isinstance(figure, Figure):
            slug = re.sub(r"[^\w.-]", "_", name)
            self.file(f"figures/{slug}.png", data)
        self._add("figure", image=image, caption=caption, alt=alt)

    def file(self, name: str, data: bytes) -> None:
        """Put a file beside the page, which is written with it."""
        self._files[name] = data

    def code(self, text: str, caption: str) -> None:
        """Add a long text in a fixed-width font, folded away under its caption."""
        self._add("code", text=text, caption=caption)

    def html(self) -> str:
        """Return the page."""
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        return environment.get_template("page.html").render(page=self, sections=self._sections)

    def write(self, path: Path | str) -> None:
        """Write the page, and those of the files beside it that have changed, each whole or not at all.

        Raises:
            OSError: if the folder is missing or cannot be written to.
        """
        for name, data in self._files.items():
            file = as_path(path).parent / name
            if not file.is_file() or file.read_bytes() != data:
                file.parent.mkdir(exist_ok=True)
                write_whole(file, data)
        write_whole(as_path(path), self.html())

    def _add(self, kind: str, **block: Any) -> None:
        blocks = self._sections[-1].blocks
        if kind == "figure":  # neighbours share a grid
            if not (blocks and blocks[-1]["kind"] == "figures"):
                blocks.append({"kind": "figures", "figures": []})
            blocks[-1]["figures"].append(block)
        else:
            blocks.append({"kind": kind} | block)


def link(text: str, path: str) -> Markup:
    """Return a link for a table's cell or a paragraph, to a file in the page's folder, whatever its name says.

    Examples:
        >>> str(link("a & b", "rate/report.html"))
        '<a href="rate/report.html">a &amp; b</a>'
        >>> str(link("x", "javascript:alert(1)"))
        '<a href="javascript%3Aalert%281%29">x</a>'
    """
    return Markup('<a href="{}">{}</a>').format(urllib.parse.quote(path.lstrip("/")), text)


class _Section(NamedTuple):
    title: str
    slug: str
    blocks: list[dict[str, Any]]


class _Embedded(NamedTuple):
    """An image as part of a page."""

    source: str  # a data: URI
    width: int  # CSS pixels
    height: int


def _embed(figure: Figure | Path) -> tuple[_Embedded, bytes]:
    if isinstance(figure, Figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", pil_kwargs={"compress_level": 4})
        data, kind, scale = buffer.getvalue(), "image/png", _SHARPNESS
    else:
        if figure.suffix.lower() not in _TYPES:
            raise ValueError(f"the file of a figure must be .png or .gif, got {figure}")
        data, kind, scale = figure.read_bytes(), _TYPES[figure.suffix.lower()], 1.0
    with Image.open(io.BytesIO(data)) as image:
        width, height = (round(size / scale) for size in image.size)
    return _Embedded(f"data:{kind};base64,{base64.b64encode(data).decode()}", width, height), data


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value  # Markup too, as it is
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _looks_numeric(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?\s?(%|s|Hz)?", value.strip()) is not None
