"""Several networks trained at once: the same as one after the other, stopped and resumed, shared out, and reported."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import scipy  # whose parts are imported where they are used
from rich.console import Console

from experiments import config, run, seeds
from experiments.config import (
    Conversion,
    Data,
    Experiment,
    Feedforward,
    Mesh,
    Objective,
    Optimizer,
    RateDense,
    Sweep,
    Train,
)
from experiments.loop import Run
from experiments.report import energy, sections
from experiments.spread import best, margin, spreads
from jsnn import weights
from jsnn.train import NotFinite

ROOT = Path(__file__).resolve().parents[1]
QUIET = Console(quiet=True)
SEVERAL = Experiment(
    name="several",
    seed=3,
    seeds=2,
    learning_rates=(1e-3, 1e-2),
    num_steps=4,
    data=Data(name="digits", train_split="train[:256]", test_split="test[:96]", shift=1),
    network=Feedforward(hidden=(16,)),
    optimizer=Optimizer(schedule="constant"),
    train=Train(epochs=2, batch_size=32),
)


def write(folder, experiment):
    path = folder / f"{experiment.name}.json"
    path.write_text(config.to_json(experiment))
    return str(path)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def short_pages():
    """Of a page, only what several networks change."""
    with pytest.MonkeyPatch.context() as patch:
        for part in ("training", "layers", "samples", "mistakes"):
            patch.setattr(sections, f"add_{part}", lambda *_: None)
        patch.setattr(energy, "add", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was begun on two devices, and goes on on one."""
    folder = tmp_path_factory.mktemp("several")
    code = "import sys; from experiments import report, run; report.write = lambda *_: None; run.main(sys.argv[1:])"
    arguments = [write(folder, SEVERAL), "--train.epochs", "1", "--workdir", str(folder / "run")]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    begun = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "on 2 devices: 4 networks" in begun.stdout, begun.stderr
    assert run.main(["--resume", str(folder / "run"), "--train.epochs", "2"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_every_network_ends_like_a_run_of_its_own(finished, tmp_path):
    members = seeds.members(SEVERAL)
    assert [(one.seed, one.optimizer.learning_rate) for one in members] == [(3, 1e-3), (4, 1e-3), (3, 1e-2), (4, 1e-2)]
    [alone], _ = Run(members[3], tmp_path, QUIET).fit()
    row = summary_of(finished)["seeds"][3]
    assert {name: row[name] for name in alone} == alone
    assert {"last_accuracy", "mean_accuracy", "spikes_per_image"} == set(row) - set(alone)


@pytest.mark.slow
@pytest.mark.parametrize("rates", [False, True])
def test_the_first_epochs_may_have_fewer_time_steps(rates, tmp_path):
    one = dataclasses.replace(SEVERAL, seeds=1, learning_rates=(), train=Train(epochs=2, batch_size=32))
    few = dataclasses.replace(one, num_steps=1)
    mixed = dataclasses.replace(one, train=dataclasses.replace(one.train, short_epochs=1, short_rates=rates))
    fitted = {name: Run(each, tmp_path / name, QUIET) for name, each in (("few", few), ("mixed", mixed))}
    for training in fitted.values():
        training.fit()
    first, second = zip(*(training.records() for training in fitted.values()))
    without_time = [{name: value for name, value in record.items() if name != "seconds"} for record in first]
    assert (without_time[0] == without_time[1]) == (not rates)
    assert second[0]["train_loss"] != second[1]["train_loss"]
    rows, _ = seeds.Seeds(dataclasses.replace(mixed, seeds=2), tmp_path / "seeds", QUIET).fit()
    [alone], _ = Run(dataclasses.replace(mixed, seed=4), tmp_path / "alone", QUIET).fit()
    assert rows[1] == alone


@pytest.mark.slow
def test_a_summary_holds_means_intervals_and_every_network(finished):
    summary = summary_of(finished)
    rows = [row for row in summary["seeds"] if row["learning_rate"] == 1e-2]  # learns faster
    for name, mean in summary["final"].items():
        values = [row[name] for row in rows]
        assert mean == pytest.approx(np.mean(values))
        low, high = scipy.stats.t.interval(0.95, 1, np.mean(values), scipy.stats.sem(values))
        assert summary["intervals"][name] == pytest.approx([low, high])
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    trained = [{name: row[name] for name in records[-1]["networks"][0]} for row in summary["seeds"]]
    assert records[-1]["networks"] == trained
    assert records[-1]["test_loss"] == pytest.approx(np.mean([row["test_loss"] for row in summary["seeds"]]))


@pytest.mark.slow
def test_a_page_shows_the_best_learning_rate_and_every_network(finished):
    page = (finished / "report.html").read_text()
    assert "<h2>Seeds" in page
    assert "What follows is about the one with seed 3 and learning rate 0.01" in page
    found = spreads(summary_of(finished)["seeds"])
    assert all(one.text("test_accuracy") in page for one in found)
    assert "learning_rates" in page  # config.json as a whole, not the one network's


@pytest.mark.slow
def test_evaluation_gives_the_final_numbers(finished, capsys):
    assert run.main(["--evaluate", str(finished)]) == 0
    found = spreads(summary_of(finished)["seeds"])
    printed = capsys.readouterr().out
    assert "several, step 16, 2 seeds (95% confidence)" in printed
    assert all(one.text("test_accuracy") in printed for one in found)


@pytest.mark.slow
def test_in_one_batched_product_the_networks_differ_by_rounding_alone(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_one_by_one", jax.vmap)  # what other devices than CPUs do
    losses = [metrics["loss"] for metrics in seeds.open_run(SEVERAL, tmp_path, QUIET)._portions(0)]
    first = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])["networks"]
    np.testing.assert_allclose(np.mean(losses, axis=(0, 2)), [row["train_loss"] for row in first], rtol=1e-3)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_to_be_whose(tmp_path):
    several = seeds.open_run(SEVERAL, tmp_path, QUIET)
    losses = np.ones((4, 5))
    losses[3, 2] = np.nan
    with pytest.raises(NotFinite, match=r"^seed 4, learning rate 0.01: the loss is nan"):
        several.check_finite(losses)


def test_the_best_learning_rate_is_chosen_on_the_validation_set_where_there_is_one():
    rows = [
        {"seed": 0, "learning_rate": rate, "validation_accuracy": validation, "test_accuracy": 1 - validation}
        for rate, validation in ((1e-3, 0.8), (1e-2, 0.9))
    ]
    assert best(spreads(rows)).learning_rate == 1e-2
    for row in rows:
        del row["validation_accuracy"]
    assert best(spreads(rows)).learning_rate == 1e-3
    assert spreads(rows)[0].margins == {}  # one seed tells nothing of a spread


def test_the_best_learning_rate_of_an_error_is_the_lowest():
    rows = [{"seed": 0, "learning_rate": rate, "test_mse": mse} for rate, mse in ((1e-3, 0.3), (1e-2, 0.1), (0.1, 0.2))]
    assert best(spreads(rows), "mse", maximize=False).learning_rate == 1e-2
    rows += [{"seed": 0, "learning_rate": 1.0, "test_mse": float("nan")}]
    assert best(spreads(rows), "mse", maximize=False).learning_rate == 1e-2


@pytest.mark.slow
def test_the_page_and_summary_of_values_are_of_the_lowest_error(tmp_path):
    data = Data(train_split="train[:64]", test_split="test[:32]", reconstruct=True)
    objective, train = Objective(decoder="mean", loss="mse"), Train(epochs=1, batch_size=16)
    network = Feedforward(hidden=(4,))
    autoencoder = Experiment(name="auto", num_steps=3, data=data, network=network, objective=objective, train=train)
    varied = dataclasses.replace(autoencoder, learning_rates=(1e-6, 1e-2))
    assert run.main([write(tmp_path, varied), "--workdir", str(tmp_path / "run")]) == 0
    summary = summary_of(tmp_path / "run")
    assert summary["final"]["test_mse"] == min(row["test_mse"] for row in summary["seeds"])
    assert "learning rate 0.01" in (tmp_path / "run" / "report.html").read_text()
    saved = weights.read_metadata(tmp_path / "run" / "weights.safetensors")
    assert saved["mse"] == str(summary["final"]["test_mse"])


def test_an_optimiser_of_ones_own_that_has_one_learning_rate_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Optimizer, "kinds", dict(Optimizer.kinds))

    class Plain(Optimizer):
        def make(self, total_steps):
            return optax.adam(self.learning_rate)

    with pytest.raises(ValueError, match=r"learning_rates need an optimiser with the rate in its state: .* from Plain"):
        seeds.open_run(dataclasses.replace(SEVERAL, optimizer=Plain()), tmp_path, QUIET)


def test_an_interval_holds_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(4000, 4))
    held = [abs(draw.mean()) <= margin(draw) for draw in draws]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mesh": Mesh(data=2)}, "share the devices: leave mesh out, got Mesh"),
        ({"network": RateDense(), "conversion": Conversion(), "sweep": Sweep(dt=(0.1,))}, "sweep needs seeds 1"),
        ({"seeds": 0}, "seeds"),
        ({"learning_rates": (0.0,)}, "learning_rates"),
    ],
)
def test_experiments_that_do_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(SEVERAL, **changes)
