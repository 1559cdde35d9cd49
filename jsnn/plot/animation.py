"""Moving pictures: spikes of an image over time, as GIF, MP4 or HTML."""

import html
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.extras import require
from jsnn.files import as_path
from jsnn.plot.arrays import finite
from jsnn.plot.canvas import DIVERGING, axes_or_new
from jsnn.plot.pictures import in_unit_range

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

_ICONS = """<style>
.anim-buttons i { font-style: normal; }
.fa-minus::before { content: "\\2212"; }
.fa-plus::before { content: "+"; }
.fa-pause::before { content: "\\275A\\275A"; }
.fa-play::before { content: "\\25B6\\FE0E"; }
.fa-flip-horizontal::before { content: "\\25C0\\FE0E"; }
.fa-step-forward::before { content: "\\25B6\\FE0E|"; }
.fa-step-backward::before { content: "|\\25C0\\FE0E"; }
.fa-fast-forward::before { content: "\\25B6\\FE0E\\25B6\\FE0E|"; }
.fa-fast-backward::before { content: "|\\25C0\\FE0E\\25C0\\FE0E"; }
</style>"""  # what stands on matplotlib's buttons, in place of the font that it takes from the network
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,"></head>
<body>
{body}
</body>
</html>
"""


@checked
def animate(
    frames: ArrayLike,
    path: str | Path | None = None,
    *,
    frames_per_second: float = 20.0,
    dt: float | None = None,
    ax: "Axes | None" = None,
) -> "FuncAnimation":
    """Draw a moving picture of an image that changes over time, such as its spikes, with the time above it.

    In a notebook, what it returns can be shown with `IPython.display.HTML(to_html5(animation))`.

    Args:
        frames: [T, H, W] or [T, H, W, 1], black at the lowest value and white at the highest; [T, H, W, 2], the events
            of an event camera by polarity (0 off, blue; 1 on, red); or [T, H, W, 3], colours in [0, 1] (integers:
            0..255).
        path: where to write it: `.gif` needs nothing else, `.mp4` needs ffmpeg on the PATH, `.html` is a page with
            buttons that loads nothing from a network. None writes nothing.
        frames_per_second: how fast it runs, at most 50 for a GIF.
        dt: the length of a step, in s, for the time above the picture; without it steps are counted.
        ax: where to draw; None makes a figure of its own. Saving renders the whole figure of `ax`.

    Returns:
        matplotlib's animation; the Axes are its `ax`'s figure's. Keep it, or give a path, or matplotlib warns.

    Raises:
        ValueError: if the shape is another, the frames are empty, not finite or out of range, `frames_per_second` or
            `dt` is not positive, or the path ends in something else.
        FileNotFoundError: if the folder of `path` does not exist.
        OSError: if it cannot be written to.
        RuntimeError: if an MP4 is asked for without ffmpeg.

    Examples:
        >>> import numpy as np, tempfile
        >>> from jsnn import plot
        >>> spikes = np.random.default_rng(0).random((3, 8, 8)) < 0.2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     animation = plot.animate(spikes, f"{folder}/spikes.gif")
    """
    pictures, limits, cmap = _pictures(frames)
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be > 0, got {frames_per_second}")
    if dt is not None and not dt > 0:
        raise ValueError(f"dt must be > 0 s, got {dt}")
    require("plot", "matplotlib", "PIL")
    save = None if path is None else _writer(as_path(path), frames_per_second)

    from matplotlib.animation import FuncAnimation

    height, width = pictures.shape[1:3]
    ax = axes_or_new(ax, width=3.2 * min(max(width / height, 0.5), 2.5), height=3.5)
    ax.set_xticks([])
    ax.set_yticks([])
    image = ax.imshow(pictures[0], cmap=cmap, vmin=limits[0], vmax=limits[1])
    title = ax.set_title("")

    def show(step: int) -> tuple:
        image.set_data(pictures[step])
        title.set_text(f"step {step}" if dt is None else f"{1e3 * dt * step:.4g} ms")
        return image, title

    animation = FuncAnimation(
        ax.figure,  # type: ignore[arg-type]
        show,
        frames=len(pictures),
        interval=1000 / frames_per_second,
        cache_frame_data=False,
    )
    if save is not None:
        save(animation)
    return animation


@checked
def to_html5(animation: "FuncAnimation") -> str:
    """Return an animation as HTML with buttons to play it, for a page or a notebook; it loads nothing from a network.

    matplotlib leaves out frames, and logs it, above 20 MB (rcParams["animation.embed_limit"]).

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> "<script" in plot.to_html5(plot.animate(np.eye(4)[None]))
        True
    """
    return re.sub(r"<link\b[^>]*>", lambda _: _ICONS, animation.to_jshtml())


def _pictures(frames: ArrayLike) -> tuple[np.ndarray, tuple[float, float], str]:
    """Return what is drawn: [T, H, W] or [T, H, W, 3], the range of the colours, and their map."""
    array = finite("frames", frames)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 2, 3)):
        raise ValueError(
            f"frames must be [T, H, W], or [T, H, W, C] with 1, 2 or 3 channels, got shape {array.shape}: "
            f"choose a sample of a batch, frames[:, 0], or a channel, frames[..., 0]"
        )
    if array.ndim == 4 and array.shape[3] == 3:
        return in_unit_range("frames", array), (0, 1), "gray"
    if array.ndim == 4 and array.shape[3] == 2:
        difference = array[..., 1].astype(np.float32) - array[..., 0].astype(np.float32)
        largest = float(np.abs(difference).max()) or 1.0
        return difference, (-largest, largest), DIVERGING
    pictures = array[..., 0] if array.ndim == 4 else array
    low, high = float(min(pictures.min(), 0)), float(pictures.max())
    return pictures, (low, high if high > low else low + 1), "gray"


def _writer(path: Path, frames_per_second: float) -> Callable[["FuncAnimation"], object]:
    """Return how an animation gets into `path`; refuses at once what would fail after all frames were rendered."""
    from matplotlib.animation import FFMpegWriter, PillowWriter

    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4", ".html"):
        raise ValueError(f"path must end in .gif, .mp4 or .html, got {path.name!r}")
    if kind == ".mp4" and not FFMpegWriter.isAvailable():
        raise RuntimeError(f"writing {path.name} needs ffmpeg on the PATH: install it, or write a .gif or .html")
    if not path.parent.exists():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error}: choose another folder") from error
    if kind == ".html":
        title = html.escape(path.stem)
        return lambda animation: path.write_text(_PAGE.format(title=title, body=to_html5(animation)), "utf-8")
    writer = (PillowWriter if kind == ".gif" else FFMpegWriter)(fps=frames_per_second)  # type: ignore[arg-type]
    return lambda animation: animation.save(path, writer=writer)
