"""A gallery: the tutorial on spike encodings, run with settings of one's own, as one page."""

import contextlib
import io
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.console import Console

from experiments import config
from experiments.report.page import Page
from jsnn import augment, data, encode, memory

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorials" / "encode_mnist.py"
_FIGURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\([^)]*/(?P<file>[^)/]*)\)")


def check(settings: config.Gallery) -> None:
    """Raise an error, before anything is drawn, if the settings do not fit the data set or an encoder.

    Raises:
        FileNotFoundError: if the data set is not there.
        MemoryError: if the spikes of the batch do not fit.
        ValueError: if the image or the pixel is not in it, or an encoder refuses a setting.
    """
    whole = data.load(settings.data, settings.split)
    if not isinstance(whole, data.Dataset):
        raise ValueError(f"data must name a set of images, and {settings.data!r} holds recordings")
    part = data.subset(whole, settings.subset)
    height, width, _ = part.images.shape[1:]
    limits = (
        ("image", settings.image, min(settings.batch_size, len(part)), "images of the subset"),
        ("pixel", settings.pixel or 0, height * width, "pixels of an image"),
    )
    for name, index, count, what in limits:
        if index >= count:
            raise ValueError(f"{name} must be below the {count} {what}, got {index}")
    memory.check_fits(
        2 * settings.num_steps * min(settings.batch_size, len(part)) * height * width * 4,  # spikes, and their draws
        cure="take fewer num_steps or a smaller batch_size",
    )
    picture = augment.to_float(jnp.asarray(part.images[settings.image])).mean(-1)
    encode.latency(picture, num_steps=settings.num_steps, tau=settings.tau, threshold=settings.threshold)


def draw(settings: config.Gallery, folder: Path, console: Console) -> int:
    """Draw everything, and only then make the folder; returns the exit status, 0 done or 130 interrupted.

    Raises:
        OSError: if the folder cannot be written, or another command has made it meanwhile.
    """
    begin = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        here = Path(temporary) / "gallery"
        (here / "figures").mkdir(parents=True)
        try:
            _page(settings, here / "figures").write(here / "report.html")
        except KeyboardInterrupt:
            console.print("stopped; nothing was written")
            return 130
        (here / "config.json").write_text(config.to_json(settings))
        try:
            os.replace(here, folder)
        except OSError as error:
            raise FileExistsError(f"{folder} was made by another command meanwhile: give another --workdir") from error
    count = len(list((folder / "figures").iterdir()))
    console.print(f"{count} figures in {time.monotonic() - begin:.1f} s")
    console.print(f"look at {folder / 'report.html'}")
    return 0


def _page(settings: config.Gallery, figures: Path) -> Page:
    """Return the tutorial's text, and the figures that its code draws for these settings."""
    lead = f"How images of {settings.data} become spikes. The text is the tutorial's and speaks of MNIST."
    page = Page(settings.name, lead)
    names: dict[str, Any] = {"__file__": str(TUTORIAL)}
    for kind, cell in _cells()[1:-1]:  # without the introduction and the links at the end
        if kind == "markdown":
            _add(page, cell, figures)
        elif kind == "parameters":
            names |= vars(settings) | {"folder": figures}
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell, str(TUTORIAL), "exec"), names)
    page.table(names["costs"])
    page.section("Settings", "Every one can be set from the command line, and the file can be run again.")
    page.code(config.to_json(settings), "config.json")
    return page


def _cells() -> list[tuple[str, str]]:
    """Return the kind and the text of each cell: "markdown", "code", or "parameters", which the settings replace."""
    _, *parts = re.split(r"^# %%(.*)\n", TUTORIAL.read_text("utf-8"), flags=re.MULTILINE)
    kinds = [next((kind for kind in ("markdown", "parameters") if kind in head), "code") for head in parts[::2]]
    return list(zip(kinds, parts[1::2]))


def _add(page: Page, cell: str, figures: Path) -> None:
    """Add a cell of Markdown: its headings, its figures, each with the paragraph below as its caption, and its text."""
    text = re.sub(r"^# ?", "", cell, flags=re.MULTILINE)
    text = re.sub(r"(?<!!)\[([^\]]*)\]\([^)]*\)|`([^`]*)`", r"\1\2", text)  # links and code as plain words
    paragraphs = re.split(r"\n\s*\n", text.strip())
    for paragraph, below in zip(paragraphs, [*paragraphs[1:], ""]):
        figure = _FIGURE.fullmatch(paragraph)
        if figure:
            page.figure(figure["file"], figures / figure["file"], below.strip("*"), figure["alt"])
        elif paragraph.startswith("## "):
            page.section(paragraph.removeprefix("## "))
        elif not paragraph.startswith("*"):
            page.text(paragraph)
