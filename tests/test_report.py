"""The page of a run: made of small runs that are given something to tell of, read as text, and opened in a browser."""

import csv
import json
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from outside import outside
from rich.console import Console

import jsnn
from experiments import config, evaluate, evaluation, report, run
from experiments.config import (
    Conversion,
    Data,
    Experiment,
    Feedforward,
    NorseRecurrent,
    Poisson,
    RateDense,
    Reference,
    SpikingResNet,
    Study,
    Sweep,
    Train,
)
from experiments.loop import Run
from experiments.report import figures, sections
from experiments.summary import git_revision
from experiments.testing import show, spike_size, spiking_layers, subject_of, threshold_of

DATA = Data(name="digits", train_split="train[:128]", test_split="test[:64]")
TRAIN = Train(epochs=1, batch_size=32)
DEAD = Experiment(
    name="dead",
    num_steps=4,
    data=DATA,
    network=NorseRecurrent(hidden=16, v_th=1e6),
    train=Train(epochs=2, batch_size=32),
    reference={"test_accuracy": Reference(0.987, "the tutorial's text"), "rate": 0.25},
)
RATE = Experiment(
    name="rate",
    data=DATA,
    network=RateDense(hidden=(16,)),
    train=TRAIN,
    conversion=Conversion(num_steps=6, scale=100.0, batch_size=32, last_steps=6),
    sweep=Sweep(scale=(10.0, 100.0)),
)
RANDOM = Experiment(
    name="random", num_steps=4, data=DATA, encoder=Poisson(), network=Feedforward(hidden=(16,)), train=TRAIN
)


def start(folder, experiment, *arguments):
    file = folder / f"{experiment.name}.json"
    file.write_text(config.to_json(experiment))
    return run.main([str(file), "--workdir", str(folder / "run"), *arguments])


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dead")
    assert start(folder, DEAD, "--train.epochs", "1") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "_SAMPLES", 0)  # the worst mistake is enough, and quicker
        assert start(folder, Study(name="study", stages=(RATE, RANDOM))) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_dead_layer_is_named_with_what_to_try(dead):
    warning = "Layer 2_Recurrent is dead: none of its 16 neurons spiked for any test example"
    assert page_of(dead).count(warning) == 2  # at the top, and beside the layers
    assert "Try a lower threshold" in page_of(dead)


OWN = """
from experiments.config import *
class Top(CrossEntropy):
    score = "top"
    def make(self):
        loss = super().make()
        def top(*batch, **padded):
            value, metrics = loss(*batch, **padded)
            return value, {"top": metrics["accuracy"]}
        return top
def get_config():
    some = dict(num_steps=3, train=Train(epochs=1, batch_size=20))
    data = Data(train_split="train[:40]", test_split="test[:20]")
    top = Experiment(name="top", data=data, network=Feedforward((4,)), objective=Objective(loss=Top()), **some)
    data = Data(train_split="train[:40]", test_split="test[:20]", reconstruct=True)
    converted = dict(network=RateDense((4,)), conversion=Conversion(num_steps=3), sweep=Sweep(scale=(1, 9)))
    values = Experiment(name="values", data=data, objective=Objective(loss="mse"), **converted, **some)
    return Study(name="study", stages=(values, top))
"""


@pytest.mark.slow
def test_a_converted_network_of_values_and_a_score_of_ones_own_have_pages(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(config.Loss, "kinds", dict(config.Loss.kinds))
    (tmp_path / "own.py").write_text(OWN)
    assert run.main([str(tmp_path / "own.py"), "--workdir", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "warning" not in printed.replace("warning: Layer", "")
    assert "accuracy" not in printed
    final = summary_of(tmp_path / "run")["final"]
    assert final["test_mse"] == final["values/test_mse"]
    texts = {"values": f"{final['values/mean_mse']:.4g} on the 20", "top": "are right. Decided on the max"}
    for stage, text in texts.items():
        assert text in page_of(tmp_path / "run" / stage)


@pytest.mark.slow
def test_a_page_says_what_was_run(dead):
    page, summary = page_of(dead), summary_of(dead)
    assert summary["command"].startswith("python -m experiments.run ")
    assert summary["command"].endswith(f"--workdir {dead} --train.epochs 1")
    for text in (
        summary["command"],
        f"experiments.run {dead}/config.json",
        "norse_recurrent",
        summary["versions"]["jax"],
    ):
        assert text in page
    cells = " ".join(re.findall("<td[^>]*>(.*?)</td>", page))
    assert "98.70% the tutorial&#39;s text the maximum of the output over all 4 steps" in cells
    assert "0.25 the config does not say" in cells
    assert "had less than the config that it came from: train.epochs 1, not 2." in page
    assert config.from_json((dead / "config.json").read_text()).reduced_from == {"train.epochs": 2}
    assert f"{summary['final']['test_accuracy']:.2%}" in page
    assert page.count("<figure>") == page.count("<img ")
    assert outside(page) == []


def missing_sections(page):
    wanted = ("Result", "What was run", "Training", "Layers", "Energy", "Test example ", "Mistakes")
    return [heading for heading in wanted if f"<h2>{heading}" not in page]


@pytest.mark.slow
def test_a_page_has_its_sections(dead):
    assert missing_sections(page_of(dead)) == []


@pytest.mark.slow
def test_the_page_of_a_residual_network_has_its_layers(tmp_path):
    network = SpikingResNet(depth=(1,), channels=4, stem="small")
    assert start(tmp_path, Experiment(name="residual", num_steps=4, data=DATA, network=network, train=TRAIN)) == 0
    page = page_of(tmp_path / "run")
    assert missing_sections(page) == []
    for name in ("neuron", "blocks.0.neurons.0", "blocks.0.neurons.1"):
        assert f"<td>{name}</td>" in page.replace(' class="text"', "")


@pytest.mark.slow
def test_the_page_of_a_conversion_has_its_sections(converted):
    assert missing_sections(page_of(converted / "rate")) == []


@pytest.mark.slow
def test_a_conversion_shows_its_diagnosis_and_sweep(converted):
    page = page_of(converted / "rate")
    for text in (
        "<h2>Conversion",
        "cosine similarity",
        "silent pairs",
        "dead neurons",
        "the spiking one, by the mean output over all 6 steps, on",
        "Decided on the mean output over all 6 steps.",
        "0_relu",
        "2 settings against spikes per image",
        "mean_accuracy",
    ):
        assert text in page


@pytest.mark.slow
def test_energy_stands_on_the_page_and_beside_it(dead, converted):
    for folder, twin in ((dead, "Nobody has trained the twin"), (converted / "rate", "that it was converted from")):
        page = page_of(folder)
        assert twin in page
        assert "fetching weights and states from memory" in page
        with (folder / "energy.csv").open(newline="") as file:
            spiking, rate = csv.DictReader(file)
        assert (spiking["network"], rate["network"]) == ("spiking", "rate twin")
        assert f"<td>{int(spiking['dense']):,}</td>" in page
        assert (folder / "figures" / "energy.png").read_bytes().startswith(b"\x89PNG")
        assert float(spiking["joules_loihi"]) < float(rate["joules_cpu"])
    with (dead / "energy.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["activation_sparsity"] != ""


@pytest.mark.slow
def test_a_study_links_to_its_stages(converted):
    page = page_of(converted)
    for stage in ("rate", "random"):
        assert f'<a href="{stage}/report.html">{stage}</a>' in page
        assert (converted / stage / "report.html").exists()
    assert '<th scope="col" class="number">scale</th>' in page
    assert "Beside the reference" not in page


@pytest.mark.slow
def test_report_makes_the_page_again_and_changes_nothing_else(dead, capsys):
    def others():
        return {
            path: path.stat().st_mtime_ns
            for path in dead.rglob("*")
            if path.is_file() and path.name not in ("report.html", ".lock")
        }

    before, page = others(), page_of(dead)
    (dead / "report.html").unlink()
    assert run.main(["--report", str(dead)]) == 0
    assert page_of(dead) == page
    assert before == others()
    assert "look at" in capsys.readouterr().out


@pytest.mark.slow
def test_report_of_a_study_makes_the_pages_of_its_stages(converted, monkeypatch):
    made = []
    monkeypatch.setattr(report, "write", lambda experiment, folder, *_: made.append((folder, experiment.name)))
    (converted / "report.html").unlink()
    assert run.main(["--report", str(converted)]) == 0
    assert made == [(converted / "rate", "rate"), (converted / "random", "random")]
    assert (converted / "report.html").exists()


@pytest.mark.slow
def test_report_of_what_has_not_finished(dead, tmp_path, capsys):
    shutil.copy(dead / "config.json", tmp_path)
    assert run.main(["--report", str(tmp_path)]) == 2
    assert "has no summary.json: finish the run with --resume" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.slow
def test_a_page_that_fails_does_not_lose_the_run(converted, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no [space] left")

    monkeypatch.setattr(report, "write", fail)
    assert start(tmp_path, RANDOM, "--train.weights", str(converted / "random")) == 0
    assert summary_of(tmp_path / "run")["final"]["test_accuracy"] >= 0
    printed = capsys.readouterr().out
    assert "no report.html, RuntimeError: no [space] left" in printed
    assert "--report" in printed


@pytest.mark.slow
def test_a_part_that_cannot_be_made_does_not_lose_the_page(converted, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("cannot be [drawn]")

    shutil.copytree(converted / "random", tmp_path / "run")
    monkeypatch.setattr(sections, "add_layers", fail)
    assert run.main(["--report", str(tmp_path / "run")]) == 0
    said = "the page is without the layers, which could not be made: ValueError: cannot be [drawn]"
    assert said in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert said in page
    assert "<h2>Result</h2>" in page
    assert "<h2>Energy" in page


@pytest.mark.slow
def test_what_is_seen_is_what_was_evaluated(converted):
    """Random encoders draw what they drew in the evaluation, so that the page's numbers are the run's."""
    seen, final = evaluation.load(converted / "random"), summary_of(converted / "random")["final"]
    assert seen.is_right.mean() == final["test_accuracy"]
    assert np.mean(seen.losses) == pytest.approx(final["test_loss"], rel=1e-5)
    assert np.mean(seen.layers[0].rates) == pytest.approx(final["test_rate/2_LIF"], rel=1e-5)
    assert seen.score_by_step[-1] == final["last_accuracy"]


@pytest.mark.slow
def test_silent_and_saturated_neurons_are_counted(converted):
    """One neuron that never spikes, one that always does, and one that spikes for some images only."""
    ready = Run(RANDOM, converted / "random", Console(quiet=True), read_only=True)
    weights = nnx.Linear(64, 3, rngs=nnx.Rngs(0))
    weights.kernel[...] = jnp.zeros((64, 3)).at[:, 2].set(1.0)
    weights.bias[...] = jnp.array([-10.0, 10.0, -18.0])
    network = jsnn.Sequential(
        jsnn.flatten, jsnn.Sequential(weights, jsnn.IF(reset="zero")), nnx.Linear(3, 10, rngs=nnx.Rngs(0))
    )
    subject = subject_of(ready)._replace(network=network, encode=lambda key, images: (images, 4))
    (seen,) = show(ready, subject, [None])
    (layer,) = seen.layers
    assert layer.name == "1_Sequential/1_IF"
    assert layer.silent.tolist() == [True, False, False]
    assert layer.saturated.tolist() == [False, True, False]
    assert layer.rates[1] == 1
    assert 0 < layer.rates[2] < 1
    assert layer.spikes == pytest.approx(4 * layer.rates.sum())
    (sample,) = evaluate._record(ready, subject, [5])
    trace = sample.layers["1_Sequential/1_IF"]
    assert trace.spikes.shape == trace.states["v"].shape == (4, 3)
    order = np.argsort(trace.traced)
    assert trace.spikes[:, :2].tolist() == [[0, 1]] * 4
    assert sorted(trace.traced) == [0, 1, 2]
    assert trace.threshold[order].tolist() == [1, 1, 1]


def test_every_kind_of_layer_is_found():
    recurrent = jsnn.Recurrent(jsnn.CuBaLIF(0.9, 0.8), nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    activation = jsnn.SpikingActivation(dt=0.1, amplitude=2.0)
    network = jsnn.Sequential(recurrent, jsnn.Sequential(activation, jsnn.filters.Lowpass(0.1, 0.1)), jsnn.LI(0.9))
    layers = spiking_layers(network)
    assert list(layers) == ["0_Recurrent", "1_Sequential/0_SpikingActivation"]
    assert [spike_size(layer) for layer in layers.values()] == [1, 20]
    assert list(spiking_layers(jsnn.LIF(0.9))) == ["LIF"]
    assert not spiking_layers(jsnn.LI(0.9))
    converted = jsnn.convert(jax.nn.relu, jnp.ones((1, 2)), dt=0.1, scale_firing_rates=5.0)
    assert [spike_size(layer) for layer in spiking_layers(converted).values()] == [2]


def test_neurons_that_spike_are_found_in_others():
    lif, synapse = jsnn.LIF(0.9, threshold=2.0), nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    noisy = jsnn.Stochastic(lif, jax.random.key(0))
    rule = jsnn.plasticity.STDP(0.9, 0.9)
    within = [jsnn.Refractory(lif, 2), jsnn.Recurrent(jsnn.Refractory(lif, 1), synapse), noisy]
    within += [jsnn.Plastic(synapse, rule, neuron=lif)]
    spiking = [*within, jsnn.Refractory(noisy, 1), jsnn.SRM0(), jsnn.SlidingPSN()]
    silent = [jsnn.LI(0.9), jsnn.SigmaDelta(), jsnn.Delay(2), jsnn.MeanRate(lif, num_steps=2)]
    assert [bool(spiking_layers(layer)) for layer in (*spiking, *silent)] == [True] * 7 + [False] * 4
    thresholds = [threshold_of(layer, (2,)) for layer in (*within, jsnn.Refractory(noisy, 1))]
    assert [None if one is None else one.tolist() for one in thresholds] == [[2, 2], [2, 2], None, [2, 2], None]


@pytest.mark.slow
def test_a_rate_network_says_that_it_has_no_spikes(converted, tmp_path):
    plain = Experiment(name="plain", data=DATA, network=RateDense(hidden=(16,)), train=TRAIN)
    assert start(tmp_path, plain, "--train.weights", str(converted / "rate")) == 0
    page = page_of(tmp_path / "run")
    assert "it has no spikes" in page
    assert "<h2>Mistakes" in page
    assert "<h2>Test example" not in page
    assert "<h2>Training" not in page
    assert str(converted / "rate") in page


def test_the_revision_of_the_code(tmp_path):
    assert git_revision(tmp_path) is None
    if shutil.which("git") is None:
        pytest.skip("there is no git to make a repository with")

    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "jsnn").mkdir()
    (tmp_path / "jsnn" / "a.py").write_text("")
    git("add", ".")
    git("commit", "-m", "a")
    clean = git_revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log").write_text("")
    assert git_revision(tmp_path) == clean
    (tmp_path / "jsnn" / "a.py").write_text("x")
    assert git_revision(tmp_path) == f"{clean} with uncommitted changes"
    assert git_revision(tmp_path / "jsnn") is None  # a repository around an installed package is not the code's own


# In a browser

PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  parent.postMessage({
    width: innerWidth, needed: document.documentElement.scrollWidth, images: images.length,
    loaded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
  }, "*");
});
</script>"""
FRAME = """<!DOCTYPE html><script>
addEventListener("message", (message) => { document.documentElement.dataset.probe = JSON.stringify(message.data); });
</script><iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium to open pages in")

    def browse(html, width):
        """What a page of this width needs and has loaded, and what the browser says to the console.

        The page stands in a frame, because a window is never narrower than 500 pixels.
        """
        folder = tmp_path_factory.mktemp("browser")
        (folder / "page.html").write_text(html.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
        (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
        flags = (
            "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
            "disable-component-update disable-sync enable-logging=stderr virtual-time-budget=10000 dump-dom "
            f"window-size=1600,1000 user-data-dir={folder / 'profile'}"
        )
        command = [chromium, *(f"--{flag}" for flag in flags.split()), (folder / "frame.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        probe = done.stdout.split('data-probe="')[1].split('"')[0].replace("&quot;", '"')
        return json.loads(probe), [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return browse


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["dead", "rate", "study"])
def test_a_page_in_a_browser(dead, converted, browse, which, width):
    html = page_of({"dead": dead, "rate": converted / "rate", "study": converted}[which])
    probe, complaints = browse(html, width)
    assert complaints == []
    assert probe["width"] == width
    assert probe["needed"] <= width
    assert probe["loaded"] == probe["images"] == html.count("<img ")
    assert (probe["images"] > 10) == (which != "study")


@pytest.mark.slow
def test_the_browser_would_tell_of_faults(browse):
    page = (
        '<body><div style="width: 2000px">x</div><img src="data:image/png;base64,AAAA"><script>boom()</script></body>'
    )
    probe, complaints = browse(page, 390)
    assert probe["needed"] > 390
    assert (probe["images"], probe["loaded"]) == (1, 0)
    assert "boom is not defined" in complaints[0]


@pytest.mark.parametrize(("longest", "width"), [(0, 1), (25, 1), (49, 1), (50, 2), (783, 16)])
def test_bins_of_delays_are_whole_steps_and_hold_all(longest, width):
    (ax,) = figures.delays({"layer": np.linspace(0, longest, 40)}, None).axes
    assert {bar.get_width() for bar in ax.patches} == {width}
    assert len(ax.patches) <= 50
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)
