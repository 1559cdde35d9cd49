"""Animations: frames that Pillow can read back, and errors before anything is rendered."""

import re
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure
from outside import outside
from PIL import Image

from jsnn import plot

FRAMES = np.zeros((4, 6, 8), bool)
FRAMES[np.arange(4), 2, np.arange(4)] = True  # a dot that walks to the right


def read_gif(path):
    """The frames in grey, [T, H, W], and how long each is shown, in ms."""
    with Image.open(path) as image:
        frames, durations = [], []
        for step in range(image.n_frames):
            image.seek(step)
            frames.append(np.asarray(image.convert("L")))
            durations.append(image.info["duration"])
    return np.stack(frames), durations


def dot_columns(frames):
    """Where the white dot is within the black picture, in columns of the picture."""
    dark = np.flatnonzero(np.median(frames[0], axis=0) < 128)
    left, right = dark[0], dark[-1] + 1
    rows = np.flatnonzero((frames[0][:, left:right] < 128).mean(axis=1) > 0.5)
    inside = frames[:, rows[0] + 2 : rows[-1] - 1, left + 2 : right - 2] > 128
    columns = [np.flatnonzero(frame.any(axis=0)).mean() for frame in inside]
    return np.array(columns) / (right - left) * 8 - 0.5


@pytest.mark.parametrize("frames", [FRAMES, FRAMES[..., None].astype(np.float32) * 1000])
def test_gif(tmp_path, frames):
    animation = plot.animate(frames, tmp_path / "dot.gif", frames_per_second=10, dt=1e-3)
    pictures, durations = read_gif(tmp_path / "dot.gif")
    assert len(pictures) == 4
    assert durations == [100] * 4
    np.testing.assert_allclose(dot_columns(pictures), [0, 1, 2, 3], atol=0.3)
    assert animation is not None


def test_events_by_polarity(tmp_path):
    events = np.zeros((2, 4, 4, 2))
    events[0, :, :, 1] = 1  # first on, then off
    events[1, :, :, 0] = 1
    plot.animate(events, tmp_path / "events.gif")
    with Image.open(tmp_path / "events.gif") as image:
        colours = []
        for step in range(2):
            image.seek(step)
            rgb = np.asarray(image.convert("RGB")).astype(int)
            colours.append(rgb[rgb.shape[0] // 2, rgb.shape[1] // 2])
    assert colours[0][0] > colours[0][2]  # red
    assert colours[1][0] < colours[1][2]  # blue


def test_colours(tmp_path):
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[..., 1] = 255
    plot.animate(frames, tmp_path / "green.gif")
    with Image.open(tmp_path / "green.gif") as image:
        rgb = np.asarray(image.convert("RGB"))
    assert rgb[rgb.shape[0] // 2, rgb.shape[1] // 2].tolist() == [0, 255, 0]


def test_given_axes_and_the_time_above_them(tmp_path):
    left, right = Figure(figsize=(4, 2)).subplots(1, 2)
    plot.animate(FRAMES, tmp_path / "dot.gif", dt=2e-3, ax=right)
    assert right.get_title() == "6 ms"
    assert not left.has_data()


def test_silent_frames(tmp_path):
    plot.animate(np.zeros((3, 5, 5)), str(tmp_path / "silent.gif"))
    frames, _ = read_gif(tmp_path / "silent.gif")
    assert np.median(frames[0]) < 10  # black, though there is no range to scale to


def test_html(tmp_path):
    animation = plot.animate(FRAMES, tmp_path / "dot.html")
    page = (tmp_path / "dot.html").read_text("utf-8")
    for text in (page, plot.to_html5(animation)):
        assert text.count("data:image/png;base64") == 4
        assert "<script" in text
        assert outside(text) == []
        buttons = set(re.findall(r'class="fa (?:fa-play )?(fa-[a-z-]+)"', text))
        assert len(buttons) == 9
        assert all(f".{button}::before" in text for button in buttons)
    assert page.startswith("<!DOCTYPE html>")


def test_what_is_loaded_from_outside_is_found():
    page = '<link rel="icon"\nhref="https://a/b.css"><a href="f">'
    page += '<img src="data:,"><script src=//c/d.js></script>url(e.png)'
    assert outside(page) == ["https://a/b.css", "//c/d.js", "e.png"]


def test_mp4(tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not on the PATH")
    plot.animate(FRAMES, tmp_path / "dot.mp4")
    assert (tmp_path / "dot.mp4").read_bytes()[4:8] == b"ftyp"


def test_mp4_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"writing dot.mp4 needs ffmpeg on the PATH: install it, or write a .gif"):
        plot.animate(FRAMES, tmp_path / "dot.mp4")


@pytest.mark.parametrize("shape", [(6, 8), (4, 2, 6, 8), (4, 6, 8, 5), (4, 2, 6, 8, 1)])
def test_wrong_rank(shape):
    with pytest.raises(
        ValueError, match=r"frames must be \[T, H, W\], or \[T, H, W, C\] .* choose a sample of a batch"
    ):
        plot.animate(np.zeros(shape))


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (FRAMES[:0], {}, r"frames must not be empty, got shape \(0, 6, 8\)"),
        (np.where(FRAMES, np.nan, 0), {}, r"frames must be finite, got nan at \[0, 2, 0\]"),
        (np.full((2, 4, 4, 3), 7.0), {}, r"frames in colour must lie in \[0, 1\], got 7 to 7"),
        (FRAMES, {"frames_per_second": 0}, "frames_per_second must be > 0, got 0"),
        (FRAMES, {"dt": -1}, "dt must be > 0 s, got -1"),
        (FRAMES, {"path": "dot.avi"}, r"path must end in .gif, .mp4 or .html, got 'dot.avi'"),
    ],
)
def test_wrong_options(frames, options, message):
    with pytest.raises(ValueError, match=message):
        plot.animate(frames, **options)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing does not exist: make it first"):
        plot.animate(FRAMES, tmp_path / "missing" / "dot.gif")


def test_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*dot.gif: .*: choose another folder"):
        plot.animate(FRAMES, tmp_path / "file" / "dot.gif")


def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        (tmp_path / "probe").touch()
    except PermissionError:
        with pytest.raises(PermissionError, match=r"cannot write .*dot.gif: .*: choose another folder"):
            plot.animate(FRAMES, tmp_path / "dot.gif")
    else:
        pytest.skip("this user may write anywhere")
    finally:
        tmp_path.chmod(0o700)
