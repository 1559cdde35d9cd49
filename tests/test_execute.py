"""Experiments with a conversion, sweeps, and studies, from a config file to what lies in the folder at the end."""

import csv
import json

import pytest

from experiments import config, evaluation, report, run
from experiments.config import Calibration, Conversion, Data, Experiment, Objective, RateDense, SpikingDense, Study

from experiments.config import Sweep, Train  # isort: skip

RATE = Experiment(
    name="rate",
    data=Data(name="digits"),
    network=RateDense(hidden=(32,)),
    train=Train(epochs=4, batch_size=32),
    conversion=Conversion(num_steps=20, scale=100.0, v_init=0.5, batch_size=120, last_steps=20),
    sweep=Sweep(scale=(10.0, 100.0), steps=(5, 20)),
)
SPIKING = Experiment(
    name="spiking",
    num_steps=10,
    data=Data(name="digits"),
    network=SpikingDense(hidden=(32,), dt=0.1, tau=0.1),
    objective=Objective(decoder="mean", rate_penalty=1e-4, rate_target=10.0, rate_over="batch"),
    train=Train(epochs=4, batch_size=32),
)


@pytest.fixture(scope="module", autouse=True)
def without_pages():
    """The page of a run takes longer than these runs, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write", lambda *_: None)
        yield


def write(folder, experiment):
    path = folder / f"{experiment.name}.json"
    path.write_text(config.to_json(experiment))
    return str(path)


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    assert run.main([write(folder, RATE), "--workdir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_conversion_leaves_its_numbers_and_figures(converted):
    final = summary(converted)["final"]
    assert final["test_accuracy"] > 0.8
    assert abs(final["mean_accuracy"] - final["test_accuracy"]) < 0.05
    assert 0 == final["rate_min_hz"] < final["rate_mean_hz"] < final["rate_max_hz"]
    assert final["spikes_per_image"] == pytest.approx(final["rate_mean_hz"] * 32 * 20e-3)
    found = evaluation.load(converted)
    assert found.metrics == {name: final[name] for name in found.metrics}
    assert found.score_by_step[-1] == final["last_accuracy"]
    assert [row.name for row in found.conversion.activations] == ["0_relu"]


@pytest.mark.slow
def test_a_sweep_tries_every_combination(converted):
    rows = summary(converted)["sweep"]
    assert [(row["scale"], row["num_steps"]) for row in rows] == [(10.0, 5), (10.0, 20), (100.0, 5), (100.0, 20)]
    assert rows[0]["spikes_per_image"] < rows[1]["spikes_per_image"] < rows[3]["spikes_per_image"]
    assert rows[3]["mean_accuracy"] == summary(converted)["final"]["mean_accuracy"]
    with open(converted / "sweep.csv") as file:
        read = list(csv.DictReader(file))
    assert [float(row["last_accuracy"]) for row in read] == [row["last_accuracy"] for row in rows]


@pytest.mark.slow
def test_the_weights_of_a_run_serve_another_conversion(converted, tmp_path):
    arguments = ["--train.weights", str(converted), "--conversion.neuron", "if", "--sweep.scale", "--sweep.steps"]
    assert run.main([write(tmp_path, RATE), *arguments, "--workdir", str(tmp_path / "run")]) == 0
    assert summary(tmp_path / "run")["final"]["test_accuracy"] == summary(converted)["final"]["test_accuracy"]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "sweep.csv").exists()


@pytest.mark.slow
def test_calibration_from_a_config(converted, tmp_path):
    conversion = Conversion(
        num_steps=8, neuron="burst_if", v_init=0.5, last_steps=8, calibration=Calibration(images=200, per_channel=True)
    )
    calibrated = Experiment(**{**vars(RATE), "conversion": conversion, "sweep": Sweep()})
    arguments = ["--train.weights", str(converted), "--conversion.calibration.bias-correction"]
    assert run.main([write(tmp_path, calibrated), *arguments, "--workdir", str(tmp_path / "run")]) == 0
    final = summary(tmp_path / "run")["final"]
    assert abs(final["mean_accuracy"] - final["test_accuracy"]) < 0.03


@pytest.mark.slow
def test_a_study_runs_its_stages_and_goes_on_where_it_stopped(tmp_path, capsys):
    study = Study(name="both", stages=(RATE, SPIKING))
    folder = tmp_path / "run"
    assert run.main([write(tmp_path, study), "--workdir", str(folder)]) == 0
    whole = summary(folder)
    assert [row["stage"] for row in whole["rows"]] == ["rate"] * 5 + ["spiking"]
    assert whole["final"]["rate/test_accuracy"] == whole["final"]["test_accuracy"]
    spiking = summary(folder / "spiking")["final"]
    assert spiking["mean_accuracy"] > 0.7
    assert spiking["rate_mean_hz"] == pytest.approx(spiking["test_rate/2_SpikingActivation"], rel=0.05)

    (folder / "summary.json").unlink()
    (folder / "spiking" / "summary.json").unlink()
    untouched = (folder / "rate" / "summary.json").stat().st_mtime_ns
    assert run.main(["--resume", str(folder)]) == 0
    assert (folder / "rate" / "summary.json").stat().st_mtime_ns == untouched
    assert summary(folder)["final"] == whole["final"]

    assert run.main(["--evaluate", str(folder)]) == 2
    assert "is a study: evaluate one of its stages" in capsys.readouterr().out
    assert run.main(["--resume", str(folder), "--checkpoint", "best"]) == 2
    assert "is a study: give --checkpoint best with one of its stages" in capsys.readouterr().out
    assert run.main(["--evaluate", str(folder / "rate")]) == 0


@pytest.mark.slow
def test_the_step_dt_may_fall_during_training(tmp_path):
    objective = Objective(decoder="mean", dt_end=0.1)
    network = SpikingDense(hidden=(32,), dt=1.0)
    falling = Experiment(**{**vars(SPIKING), "network": network, "objective": objective})
    assert run.main([write(tmp_path, falling), "--workdir", str(tmp_path / "run")]) == 0
    assert summary(tmp_path / "run")["final"]["mean_accuracy"] > 0.7


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"conversion": Conversion()}, "conversion needs a rate network, such as .*, got 'spiking"),
        ({"sweep": Sweep(dt=(0.1,))}, "sweep needs a conversion to vary"),
    ],
)
def test_experiments_that_do_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        Experiment(**{**vars(SPIKING), **changes})


def test_stages_need_names_of_their_own():
    with pytest.raises(ValueError, match=r"need names of their own, got \['rate', 'rate'\]"):
        Study(name="twice", stages=(RATE, RATE))
