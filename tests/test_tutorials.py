"""The tutorials of docs/: each runs on a small setting, and draws the figures that its text shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "docs" / "tutorials").glob("*.py"))
each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def links(path, pattern):
    """What a tutorial's text links to, as (text, target)."""
    text = "\n".join(line for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    return re.findall(rf"{pattern}\[([^\]]*)\]\(([^)]+)\)", text)


def figures(path):
    """The figures that a tutorial shows, such as `figures/encode_mnist/raster.png`."""
    return {target for _, target in links(path, "!")}


@pytest.mark.slow
@each_tutorial
def test_a_tutorial_runs_and_draws_its_figures(path, tmp_path):
    settings = {
        "JSNN_TUTORIAL": "small",
        "JSNN_TUTORIAL_FIGURES": str(tmp_path / "figures"),
        "JAX_PLATFORMS": "cpu",
    }
    process = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    drawn = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert figures(path) <= drawn


@each_tutorial
def test_its_figures_lie_in_docs_and_are_small(path):
    files = [path.parent / figure for figure in figures(path)]
    assert files
    assert [file for file in files if not file.is_file()] == []
    assert sum(file.stat().st_size for file in files) < 3e6
    assert all(alt.strip() for alt, _ in links(path, "!"))


@each_tutorial
def test_it_opens_as_a_notebook(path):
    header, *cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.MULTILINE)
    assert "format_name: percent" in header
    texts = [cell.partition("\n")[2] for cell in cells if cell.startswith(" [markdown]")]
    assert texts
    assert all(line.startswith("#") or not line.strip() for text in texts for line in text.splitlines())


@each_tutorial
def test_its_links_to_other_pages_lead_somewhere(path):
    targets = [target for _, target in links(path, r"(?<!!)") if not target.startswith("http")]
    assert [target for target in targets if not (path.parent / target).is_file()] == []
