"""The gallery of codes: one command draws all figures, animations and the page, or nothing."""

import json
import re

import numpy as np
import pytest
from outside import outside
from PIL import Image
from rich.console import Console

from experiments import config, gallery, run

STEPS = 12
TINY = config.Gallery(data="digits", batch_size=8, num_steps=STEPS, tau=0.5, image=3)
SHOWN = re.findall(r"!\[[^\]]*\]\(figures/encode_mnist/([^)]*)\)", gallery.TUTORIAL.read_text("utf-8"))
FIGURES, ANIMATIONS = ({name for name in SHOWN if name.endswith(end)} for end in (".png", ".gif"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("galleries") / "gallery"
    config_file = folder.with_name("config.json")
    config_file.write_text(config.to_json(TINY))
    assert run.main([str(config_file), "--workdir", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_one_command_draws_every_figure(drawn):
    assert {path.name for path in (drawn / "figures").iterdir()} == set(SHOWN)
    assert {path.name for path in drawn.parent.iterdir()} == {"config.json", "gallery"}  # nothing temporary is left
    for name in FIGURES:
        with Image.open(drawn / "figures" / name) as image:
            assert np.ptp(np.asarray(image.convert("L"))) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ANIMATIONS))
def test_an_animation_has_a_frame_for_each_step(drawn, name):
    with Image.open(drawn / "figures" / name) as image:
        assert image.n_frames == (STEPS // 2 if name == "random.gif" else STEPS)
        assert image.info["duration"] == 50


@pytest.mark.slow
def test_the_page_holds_every_figure_with_a_caption(drawn):
    page = (drawn / "report.html").read_text()
    assert len(re.findall(r'src="data:image/png', page)) == len(FIGURES)
    assert len(re.findall(r'src="data:image/gif', page)) == len(ANIMATIONS)
    assert outside(page) == []
    assert all(caption.strip() for caption in re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S))
    for text in ("Rate code", "Latency code", "Delta modulation", "Spikes out of nothing", "latency, linear"):
        assert text in page


@pytest.mark.slow
def test_its_config_json_can_be_run_again(drawn):
    assert config.from_json((drawn / "config.json").read_text()) == TINY


@pytest.mark.slow
def test_settings_decide_what_is_drawn(drawn, tmp_path):
    def figures(settings):
        folder = tmp_path / str(settings.seed)
        assert gallery.draw(settings, folder, Console(quiet=True)) == 0
        return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}

    first = {path.name: path.read_bytes() for path in (drawn / "figures").iterdir()}
    other = figures(config.Gallery(**{**vars(TINY), "seed": 1, "signal": (0.0, 9.0, 0.0)}))
    same = {name for name in first if other[name] == first[name]}
    assert {"images.png", "latency.gif", "latency_rasters.png", "latency_times.png", "step_forward.png"} == same


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "130"], "image must be below batch_size = 128"),
        (["--batch-size", "500", "--image", "400"], "image must be below the 144 images of the subset, got 400"),
        (["--pixel", "64"], "pixel must be below the 64 pixels of an image, got 64"),
        (["--subset", "0"], "greater than 0"),
        (["--subset", "2000"], "factor must lie in 1..1437"),
        (["--num-steps", "20"], "num_steps must be at least 59 for the latest spike, got 20"),
        (["--signal", "1"], "signal must have at least 2 values"),
        (["--data", "digitz"], "did you mean 'digits'?"),
        (["--gane", "1"], "--gain"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(capsys, tmp_path, arguments, message):
    try:
        command = ["configs/encoding_mnist.py", "--data", "digits", *arguments, "--workdir", str(tmp_path / "run")]
        status = run.main(command)
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2
    assert message in re.sub(r"[\s│]+", " ", printed.out + printed.err)
    assert not list(tmp_path.iterdir())


def test_a_missing_data_set_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    assert run.main(["configs/encoding_mnist.py", "--workdir", str(tmp_path / "run")]) == 2
    assert "data set 'mnist' cannot be fetched (ConnectionError" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_interrupted_it_writes_nothing(monkeypatch, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "_page", interrupt)
    assert gallery.draw(TINY, tmp_path / "run", Console(quiet=True)) == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_gallery_is_neither_resumed_nor_evaluated(capsys, drawn):
    for option in ("--resume", "--evaluate"):
        assert run.main([option, str(drawn)]) == 2
        assert "is a gallery" in capsys.readouterr().out


def test_all_fields_are_in_the_json():
    assert set(json.loads(config.to_json(TINY))) == set(vars(TINY))
