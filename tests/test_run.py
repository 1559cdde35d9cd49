"""The runner from the outside: what a command prints, writes, refuses, and how a run stops and goes on."""

import builtins
import errno
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from fuzz_commands import fuzz
from rich.console import Console

from experiments import config, files, load, report, run
from experiments.fields import override
from experiments.loop import Run
from jsnn import weights

ROOT = Path(__file__).resolve().parents[1]
QUICK = (
    "--train.epochs",
    "2",
    "--data.train-split",
    "train[:300]",
    "--data.test-split",
    "test[:100]",
    "--num-steps",
    "4",
)


@pytest.fixture(scope="module", autouse=True)
def without_pages():
    """The page of a run takes longer than these runs, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write", lambda *_: None)
        yield


def command(*arguments):
    return [sys.executable, "-m", "experiments.run", *map(str, arguments)]


def call(capsys, *arguments):
    """Run a command in this process; return its exit status and what it printed, on one line."""
    try:
        status = run.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, re.sub(r"\s+", " ", captured.out + captured.err)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert run.main(["configs/digits.py", *QUICK, "--workdir", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_run_writes_its_folder(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) >= {"name", "final", "seconds", "device", "versions", "seed"}
    assert summary["name"] == "digits"
    assert summary["seed"] == 0
    assert 0.3 < summary["final"]["test_accuracy"] <= 1
    assert all(isinstance(value, float) for value in summary["final"].values())
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"train_loss", "train_accuracy", "train_rate/2_LIF", "test_accuracy"} <= set(lines[0])
    assert lines[-1]["test_accuracy"] == summary["final"]["test_accuracy"]
    assert any((finished / "tensorboard").iterdir())
    assert set(weights.load(finished / "weights.safetensors")) >= {"layers.1.kernel", "layers.3.kernel"}
    metadata = weights.read_metadata(finished / "weights.safetensors")
    assert float(metadata["accuracy"]) == summary["final"]["test_accuracy"]
    assert json.loads(metadata["config"])["name"] == "digits"


def test_config_json_can_be_run_again_to_the_same_numbers(finished, tmp_path):
    assert run.main([str(finished / "config.json"), "--workdir", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "config.json").read_text() == (finished / "config.json").read_text()
    first, again = (json.loads((f / "summary.json").read_text())["final"] for f in (finished, tmp_path / "again"))
    assert first == again


def test_evaluate_gives_the_final_numbers_and_changes_nothing(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    status, printed = call(capsys, "--evaluate", finished)
    accuracy = json.loads((finished / "summary.json").read_text())["final"]["test_accuracy"]
    assert status == 0
    assert f"{accuracy:.2%}" in printed
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


def test_list_shows_every_config_with_its_claim(capsys):
    status, printed = call(capsys, "--list")
    assert status == 0
    for path in (ROOT / "configs").glob("[!_]*.py"):
        assert f"configs/{path.name}" in printed


def test_list_names_a_config_that_python_cannot_read(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def get_config(:")
    monkeypatch.setattr(run, "CONFIGS", tmp_path)
    status, printed = call(capsys, "--list")
    assert status == 2
    assert "mine.py, line 1" in printed


def test_help_shows_every_field(capsys):
    status, printed = call(capsys, "configs/digits.py", "--help")
    assert status == 0
    for text in (
        "--train.epochs",
        "--encoder KIND: direct, constant_current",
        "Passes over the training set",
        "--data.name",
        "--workdir",
    ):
        assert text in printed


@pytest.mark.rows(6)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/digit.py"], "there is no config configs/digit.py: did you mean configs/digits.py?"),
        (["configs/digits.py", "--train.epochz", "3"], "--train.epochs"),
        (["configs/digits.py", "--train.epochs", "0"], "greater than 0"),
        (["configs/digits.py", "--train.epochs", "many"], "many"),
        (["configs/digits.py", "--network.decay", "1.5"], "less than or equal to 1"),
        (["configs/digits.py", "--data.name", "digitz"], "digits"),
        (["configs/digits.py", "--optimizer.name", "adamm"], "did you mean 'adam'?"),
        (["configs/digits.py", "--train.batch-size", "5000"], "must be at most the 1437 training examples, got 5000"),
        (["configs/digits.py", "--train.patience", "2"], "train.patience needs data.validation_split"),
        (["configs/digits.py", "--optimizer.options", "weight_decoy", "1e-4"], "optax.adam (b1, b2, eps, "),
        (["configs/digits.py", "--data.mean", "0.1", "0.2"], "mean must be a number or one per channel (1), got (2,)"),
        (["configs/digits.py", "--data.shift", "8"], "the examples of digits cannot be prepared as data says: pixels"),
        (["--resume", "nowhere", "configs/digits.py"], "nowhere has a config of its own: leave out configs/digits.py"),
        (["--resume", "nowhere"], "nowhere is not the folder of a run"),
        (["--evaluate", "nowhere"], "nowhere is not the folder of a run"),
        (["--checkpoint", "worst"], "worst"),
        (["configs/digits.py", "--checkpoint", "best"], "--checkpoint best needs --evaluate RUN"),
        (["--resume", "nowhere", "--workdir", "x"], "argument --workdir: not allowed with argument --resume"),
        (["configs/digits.py", "--train.short-rates"], "short_rates is for the first epochs, short_epochs of them"),
        (
            ["configs/digits.py", "--train.short-epochs", "99"],
            "train.short_epochs must be at most train.epochs, got 99",
        ),
        (["configs/digits.py", "--network", "rate_dens"], "got 'rate_dens': did you mean 'rate_dense'?"),
        (["configs/digits.py", "--network", "--seed", "1"], "--network needs a kind, such as --network feedforward"),
        (["configs/digits.py", "--conversion", "maybe"], "--conversion must be None or default, got 'maybe'"),
        (["configs/digits.py", "--conversion", "default"], "conversion needs a rate network, such as rate_conv"),
        (
            ["configs/digits.py", "--network", "rate_dense", "--network.decay", "0.5"],
            "no field --network.decay",
        ),
        (["configs/digits.py", "--conversion.num-steps", "9"], "None, and has no fields: put it in with --conversion "),
        (["configs/digits.py", "--optimizer.options", "b1"], "--optimizer.options: names and values in turn, as in x "),
        (["configs/digits.py", "--reduced-from", "x"], "there is no field --reduced-from "),
        (["configs/digits.py", "--logger", "wandb"], "pip install wandb"),
        (["--train.epochs", "3"], "--train.epochs needs a config in front, such as configs/digits.py"),
        (["configs/digits.py", "0.9"], "'0.9' is no field and belongs to none"),
        (["configs/digits.py", "--data.flip", "True"], "fields are set as in --data.flip or --data.no-flip"),
        (["configs/digits.py", "--data", "mnist"], "got 'mnist'. Its name is set by --data.name mnist"),
        (["configs/digits.py", "--data", "recordings"], "data.kind must be one of 'data', 'speech', 'events'"),
        (["configs/digits.py", "--optimizer", "sgd"], "Its name is set by --optimizer.name sgd"),
        (["configs/digits.py", "--train.epochz=3"], "no field --train.epochz: did you mean '--train.epochs'?"),
        (["configs/digits.py", "--train.epochs", "1000000000"], "train.epochs must be <= 97612893, of 22 steps"),
        (["configs/digits.py", "--num-steps", "1000000000000"], "num_steps must be at most 2147483647"),
        (["configs/digits.py", "--optimizer.clip_norm", "inf"], "optimizer.clip_norm must be a finite number, got inf"),
        (["configs/digits.py", "--train.weights", "nowhere"], "nowhere/checkpoints"),
        (["configs/fashion_mnist_spiking.py", "--stages.0.trainz.epochs", "3"], "'--stages.0.train.epochs'?"),
        (["configs/fashion_mnist_spiking.py", "--stages.0.data.name", "digits.npz"], "digits.npz: give the path of"),
        (["configs/fashion_mnist_spiking.py", "--stages.0.optimizer.name", "chain"], "optimizer.name must be"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, arguments, message):
    if arguments[0].startswith("configs"):
        arguments = [*arguments, "--workdir", tmp_path / "run"]
    status, printed = call(capsys, *arguments)
    assert status == 2
    assert message in printed
    assert printed.startswith("error: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", [("--seeds", "10000000"), ("--network.hidden", "1000000000")])
def test_a_network_that_does_not_fit_is_refused_before_it_is_made(capsys, tmp_path, field):
    status, printed = call(capsys, "configs/digits.py", *field, "--workdir", tmp_path / "run")
    assert status == 1
    assert re.search("GiB: take (fewer neurons or channels, or fewer seeds|smaller sizes)", printed)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_hostile_commands_end_with_one_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert [outcome for outcome in fuzz(60, seed=0) if outcome.fault] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--network", "rate_dense", "--network.hidden", "9"], {"network": {"kind": "rate_dense", "hidden": [9]}}),
        (["--network.hidden", "9", "--network=rate_dense"], {"network": {"kind": "rate_dense", "hidden": [9]}}),
        (["--network", "feedforward"], {"network": {"hidden": [128]}}),  # what it is already
        (["--objective.decoder", "last"], {"objective": {"decoder": {"kind": "last"}}}),
        (["--network", "rate_dense", "--conversion", "default"], {"conversion": {"num_steps": 30}}),
        (
            "--conversion.calibration.images 9 --conversion.calibration=default --conversion=default "
            "--network=rate_dense",
            {"conversion": {"calibration": {"images": 9}}},
        ),
        (["--optimizer.options", "b1", "0.5"], {"optimizer": {"options": {"b1": 0.5}}}),
        (["--encoder", "latency", "--data.mean", "0", "--data.std", "1"], {"data": {"mean": [0], "std": [1]}}),
        (
            ["--stages.1.encoder", "poisson", "--stages.1.encoder.f-max", "5"],
            {"stages": {"1": {"encoder": {"f_max": 5}}}},
        ),
    ],
)
def test_the_command_line_chooses_the_kinds_of_parts(arguments, expected):
    names = {"stages": "fashion_mnist_spiking", "data": "mnist_conv"}
    name = f"configs/{names.get(next(iter(expected)), 'digits')}.py"
    arguments = arguments.split() if isinstance(arguments, str) else arguments
    changed = override(load.load_config(name), arguments, name, "")

    def check(values, expected):
        for name, value in expected.items():
            inner = values[int(name)] if isinstance(values, list) else values[name]
            check(inner, value) if isinstance(value, dict) else pytest.approx(value) == inner or pytest.fail(name)

    check(config.to_values(changed), expected)


@pytest.fixture
def needy(monkeypatch):
    """A network of one's own, with fields that have no default."""
    monkeypatch.setattr(config.Network, "kinds", dict(config.Network.kinds))

    class Needy(config.Network):
        hidden: tuple[int, ...]
        width: int
        depth: int = 2

        def make(self, inputs, outputs, rngs): ...

    return Needy


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ("--network needy --network.hidden 3 4 --network.width 5", {"hidden": (3, 4), "width": 5}),
        (
            "--network.width=5 --network=needy --network.hidden=3 --network.depth=1",
            {"hidden": (3,), "width": 5, "depth": 1},
        ),
        ("--network needy --network.width 5", "^--network.hidden must be given: there is no default$"),
        ("--network needy", "^--network.hidden, --network.width must be given: there is no default$"),
        ("--network needy --network.hidden 3 --network.width x", "--network.width: invalid literal for int"),
    ],
)
def test_fields_without_a_default_follow_a_kind(needy, arguments, outcome):
    experiment = load.load_config("configs/digits.py")
    if isinstance(outcome, dict):
        assert override(experiment, arguments.split(), "digits", "").network == needy(**outcome)
        return
    with pytest.raises(ValueError, match=outcome):
        override(experiment, arguments.split(), "digits", "")


@pytest.mark.slow
def test_the_first_epochs_can_have_fewer_time_steps(tmp_path):
    def records(name, *arguments):
        assert run.main(["configs/digits.py", *QUICK, *arguments, "--workdir", str(tmp_path / name)]) == 0
        return [
            json.loads(line) | {"seconds": 0} for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]

    short = records("short", "--train.short-epochs", "1", "--train.short-steps", "2")
    assert short[0] == records("two", "--num-steps", "2", "--train.epochs", "2")[0]
    four = records("four")
    assert short[1] not in four
    assert run.main(["--evaluate", str(tmp_path / "short")]) == 0


def test_a_part_can_be_left_out():
    name = "configs/cifar10_conversion.py"
    experiment = load.load_config(name)
    assert override(experiment, ["--conversion", "None"], name, "").conversion is None
    assert override(experiment, ["--conversion", "default"], name, "") == experiment


@pytest.mark.slow
def test_parts_of_ones_own_go_with_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(config.Network, "kinds", dict(config.Network.kinds))
    monkeypatch.setattr(config.Encoder, "kinds", dict(config.Encoder.kinds))
    own, folder = tmp_path / "mine.py", tmp_path / "run"
    own.write_text((ROOT / "configs" / "own_network.py").read_text())
    status, printed = call(capsys, own, "--help")
    assert status == 0
    assert "--network.width INT" in printed
    assert run.main([str(own), *QUICK, "--network.width", "8", "--train.epochs", "1", "--workdir", str(folder)]) == 0
    own.unlink()
    done = subprocess.run(
        command("--resume", folder, "--train.epochs", "1"), cwd=ROOT, capture_output=True, text=True
    )  # in a process that has never seen the parts
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((folder / "config.json").read_text())["network"] == {"kind": "residual_network", "width": 8}
    assert run.main([str(folder / "config.json"), "--workdir", str(tmp_path / "again")]) == 0
    first, again = (json.loads((f / "summary.json").read_text())["final"] for f in (folder, tmp_path / "again"))
    assert first == again
    assert (tmp_path / "again" / "own_parts.py").read_text() == (folder / "own_parts.py").read_text()


@pytest.mark.rows(4)
@pytest.mark.parametrize(
    ("base", "body", "message"),
    [
        ("Data", "make(self): raise KeyError('x')", "own.py, line 5: KeyError: 'x', in"),
        ("Data", "make(self): return some(), some()", "Mine.make must return Sets(train, test), each a jsnn.data"),
        ("Data", "make(self): return Sets(some(), Dataset(some().inputs, np.ones(9)))", "targets must be integers whe"),
        ("Data", "make(self): return Sets(some(), some())\n    validation_split: str = 'x'", "must return Sets with a"),
        ("Data", "make(self): return Sets(some(), None, some())", "Mine.make must return Sets(train, test), each a j"),
        ("Network", "mak(self, *_): return 3", "network must have the method make, and Mine does not"),
        ("Network", "make(self, i, o, _): return lambda x: x", "Mine.make must return a Neuron, such as jsnn.Network"),
        ("Network", "make(self, *_): return jsnn.LI(0.9)\n    is_rate = True", "must return a function without time"),
        ("Network", "make(self, *_, **__): return undefined", "own.py, line 5: NameError"),
        ("Network", "make(self, *_, **__): return jsnn.LIF(0.9)", "the network has nothing to train"),
        ("Network", "make(self, i, o, rngs): return jsnn.models.feedforward([6, 1], rngs=rngs)", "must give 3 outputs"),
        ("Encoder", "make(self, num_steps): return None", "build.py, line"),
        ("Loss", "make(self): return lambda *_: jnp.ones(())", "TypeError: loss must return (scalar, metrics)"),
        ("Loss", "make(self): return lambda *_: (jnp.ones(()), {})", "must have its score 'accuracy' among its m"),
        ("Loss", "make(self): return lambda *_: (jnp.ones(2), {})", "loss must return a scalar, got shape (2,)"),
        ("Optimizer", "make(self, total_steps): return None", "optimizer must be GradientTransformation, got None"),
    ],
)
def test_mistakes_in_parts_of_ones_own_are_named_before_the_run_begins(capsys, tmp_path, base, body, message):
    objective = "Objective(loss=Mine())" if base == "Loss" else "Objective()"
    text = f"""from experiments.config import *
import jsnn, numpy as np, jax.numpy as jnp
from jsnn.data import Dataset
class Mine({base}):
    def {body}
some = lambda: Dataset(np.zeros((9, 6)), np.arange(9) % 3)
class Some(Data):
    def make(self): return Sets(some(), some())
def get_config():
    parts = {{"data": Some(), "objective": {objective}, "{base.lower()}": Mine()}}
    parts.pop("loss", None)
    return Experiment(train=Train(batch_size=2), num_steps=2, **parts)
"""
    (tmp_path / "own.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        for family in {config.Examples, getattr(config, base.replace("Data", "Examples"))}:
            patch.setattr(family, "kinds", dict(family.kinds))
        status, printed = call(capsys, tmp_path / "own.py", "--workdir", tmp_path / "run")
    assert (status, message in printed, (tmp_path / "run").exists()) == (2, True, False), printed


def test_a_python_file_of_another_project_beside_a_config_json_is_not_run(finished, tmp_path):
    (tmp_path / "config.json").write_text((finished / "config.json").read_text())
    (tmp_path / "config.py").write_text("raise RuntimeError")
    assert load.load_config(str(tmp_path / "config.json")) == load.load_config(str(finished / "config.json"))


def test_a_config_json_with_an_unknown_field(capsys, finished, tmp_path):
    settings = json.loads((finished / "config.json").read_text())
    settings["train"]["epoch"] = 3
    (tmp_path / "config.json").write_text(json.dumps(settings))
    status, printed = call(capsys, tmp_path / "config.json")
    assert status == 2
    assert "train.epoch" in printed


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("three.py", "def get_config(): return 3", "must return an Experiment, a Study or a Gallery, got 3"),
        ("empty.py", "", "must define get_config() -> Experiment, and does not"),
        ("syntax.py", "def get_config(:", "syntax.py: SyntaxError: invalid syntax"),
        ("raises.py", "def get_config():\n    return 1 / 0", "raises.py, line 2: ZeroDivisionError: division by zero"),
        ("exits.py", "raise SystemExit(7)", "exits.py, line 1: SystemExit: 7"),
        ("config.json", "\xff", "config.json is not the config.json of a run: expected value"),
        ("config.json", "epochs: 3", "config.json is not the config.json of a run: expected"),
    ],
)
def test_what_is_no_config(capsys, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    status, printed = call(capsys, tmp_path / name)
    assert status == 2
    assert message in printed


def test_an_existing_folder_is_refused(capsys, finished):
    before = (finished / "summary.json").read_text()
    status, printed = call(capsys, "configs/digits.py", *QUICK, "--workdir", finished)
    assert status == 2
    assert "exists: give another --workdir, or go on with --resume" in printed
    assert (finished / "summary.json").read_text() == before


def test_a_loss_that_is_not_finite_stops_the_run(capsys, tmp_path):
    overrides = ("--optimizer.learning-rate", "1e38", "--optimizer.schedule", "constant")
    status, printed = call(capsys, "configs/digits.py", *QUICK, *overrides, "--workdir", tmp_path / "run")
    assert status == 1
    assert re.search(r"the loss is (nan|inf) at step \d+ \(epoch 1\)", printed)
    assert "anew with a lower learning rate" in printed
    assert "--resume" not in printed  # to the same bits
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_step_that_does_not_fit_stops_the_run_before_it_begins(capsys, monkeypatch, tmp_path):
    few = types.SimpleNamespace(available=2**18)  # enough for the weights
    monkeypatch.setattr("psutil.virtual_memory", lambda: few)
    status, printed = call(capsys, "configs/digits.py", *QUICK, "--workdir", tmp_path / "run")
    assert status == 1
    assert re.search(r"this takes 0\.\d GiB of memory, and .* has 0\.0 GiB: take a smaller batch", printed)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_kernel_that_does_not_compile_is_one_line(capsys, monkeypatch, tmp_path):
    def launch(*_, **__):
        raise NotImplementedError("Unimplemented primitive in Pallas Mosaic GPU lowering: tan\nand much more")

    monkeypatch.setattr("jsnn.fused.kernels._launch", launch)
    status = run.main(["configs/digits.py", "--train.method", "fused", "--workdir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert status == 1
    assert "the fused kernel does not compile here (NotImplementedError: Unimplemented primitive" in " ".join(
        printed.split()
    )
    assert "--train.method scan" in " ".join(printed.split())
    assert "Traceback" not in printed
    assert "and much more" not in printed


def test_an_evaluation_that_does_not_fit_is_refused(capsys, monkeypatch, finished):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2**18))
    status, printed = call(capsys, "--evaluate", finished)
    assert status == 1
    assert re.search(r"this takes 0\.\d GiB of memory, and .* has 0\.0 GiB: take a smaller batch", printed)


@pytest.mark.slow
def test_early_stopping_takes_the_best_epoch(capsys, tmp_path):
    overrides = ("--data.validation-split", "train[1300:]", "--train.patience", "1", "--train.epochs", "30")
    status, _ = call(capsys, "configs/digits.py", *QUICK, *overrides, "--workdir", tmp_path / "run")
    assert status == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(line["validation_accuracy"] for line in lines)
    final = json.loads((tmp_path / "run" / "summary.json").read_text())["final"]
    assert len(lines) < 30
    assert final["validation_accuracy"] == best
    assert lines[-1]["validation_accuracy"] <= best
    saved = weights.load(tmp_path / "run" / "weights.safetensors")
    chosen = next(line for line in lines if line["validation_accuracy"] == best)
    trained = Run(load.load_config(str(tmp_path / "run" / "config.json")), tmp_path / "run", Console(), read_only=True)
    trained.restore(chosen["step"])
    kernel = trained.network().layers[1].kernel[...]
    assert (saved["layers.1.kernel"] == kernel).all()  # of that epoch, as the accuracy beside it is
    trained.take_weights(tmp_path / "run")  # as --train.weights does
    assert (trained.network().layers[1].kernel[...] == kernel).all()


@pytest.mark.parametrize(
    ("scores", "short", "chosen"),
    [([0.1, 0.3, 0.2], 0, 2), ([0.9, 0.3, 0.2], 1, 2), ([0.3, 0.9, 0.2], 3, 2), ([float("nan")] * 3, 0, 3)],
)
def test_the_weights_of_the_epoch_that_is_chosen_are_there(tmp_path, scores, short, chosen):
    """Also where one with fewer time steps was better, or no score is a number."""
    data = config.Data(train_split="train[:40]", test_split="test[:20]", validation_split="train[90%:]")
    training = config.Train(epochs=3, batch_size=20, short_epochs=short)
    running = Run(config.Experiment(data=data, train=training), tmp_path, Console())
    running._start, running._bar, records = 0.0, running, []
    for epoch, score in enumerate(scores, 1):
        records.append({"epoch": epoch, "step": 2 * epoch, "seconds": 0.0, "train_loss": 1.0})
        records[-1]["validation_accuracy"] = score
        running.state = running.state._replace(step=running.state.step + 2)
        running.save({}, records, running.quality(records[-1]))
    assert running.chosen(records)["epoch"] == chosen
    running.restore(2 * chosen)


def test_patience_counts_no_short_epochs_of_a_training_that_has_whole_ones(tmp_path):
    data = config.Data(train_split="train[:40]", test_split="test[:20]", validation_split="train[90%:]")
    training = config.Train(epochs=9, batch_size=20, patience=1, short_epochs=3)
    running = Run(config.Experiment(data=data, train=training), tmp_path, Console())
    records = [{"epoch": epoch, "validation_accuracy": 1 / epoch} for epoch in range(1, 6)]
    assert [running._should_stop_early(records[:done]) for done in (3, 4, 5)] == [False, False, True]


def test_an_epoch_that_was_begun_may_go_on_in_other_parts(tmp_path, monkeypatch):
    data = config.Data(train_split="train[:40]", test_split="test[:20]")
    training = config.Train(batch_size=4)  # 10 steps
    running = Run(config.Experiment(data=data, train=training, num_steps=2), tmp_path, Console())
    for portions, step in ((5, 2), (3, 5), (2, 10)):
        monkeypatch.setattr("jsnn.train.trainer._PORTIONS", portions)
        next(running._portions(0))
        assert running.step == step


def test_other_data_than_a_run_was_trained_with_are_refused(tmp_path):
    def fit(count, epochs):
        digits = (np.ones((count, 4), np.float32), np.arange(count) % 2)
        np.savez(tmp_path / "own.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), 2 * digits)))
        data, training = config.Data(name=str(tmp_path / "own.npz")), config.Train(epochs=epochs, batch_size=4)
        Run(config.Experiment(data=data, train=training, num_steps=2), tmp_path / "run", Console(quiet=True)).fit()

    fit(8, 1)
    with pytest.raises(
        ValueError, match=r"own.npz have \[16, 16\] examples, and had \[8, 8\] when the run was trained"
    ):
        fit(16, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "tolerance"), [(2**28, 0), (10_000, 1e-6)])
def test_data_sent_in_parts_give_the_numbers_of_resident_data(finished, part, tolerance, tmp_path, monkeypatch):
    monkeypatch.setattr("jsnn.train.trainer._PART_BYTES", part)
    sent, send = [], Run.send
    monkeypatch.setattr(Run, "send", lambda *arguments: sent.append(send(*arguments)) or sent[-1])
    options = ["--data.residence", "host", "--train.eval-batch-size", "100", "--workdir", str(tmp_path / "run")]
    assert run.main(["configs/digits.py", *QUICK, *options]) == 0
    first, streamed = (json.loads((f / "summary.json").read_text())["final"] for f in (finished, tmp_path / "run"))
    assert first == pytest.approx(streamed, rel=tolerance)
    assert max(map(len, sent)) < (1600 if part > 10_000 else 200)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run.main(["configs/digits.py", "--train.epochs", "6", "--workdir", str(folder)]) == 0
    return json.loads((folder / "summary.json").read_text())["final"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "after_epochs"), [(signal.SIGKILL, 2), (signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_a_stopped_run_resumes_to_the_same_numbers(uninterrupted, tmp_path, number, after_epochs):
    folder = tmp_path / "run"
    arguments = command("configs/digits.py", "--train.epochs", 6, "--workdir", folder)
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "COLUMNS": "200"})
        metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 120
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= after_epochs):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        status = process.wait(60)
    if number != signal.SIGKILL:
        assert status == 130
        assert "--resume" in (tmp_path / "log").read_text()
    assert not (folder / "summary.json").exists()
    assert run.main(["--resume", str(folder)]) == 0
    assert json.loads((folder / "summary.json").read_text())["final"] == uninterrupted
    lines = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def final_of(folder):
    return json.loads((folder / "summary.json").read_text())["final"]


def test_what_would_be_a_mixture_is_refused_and_nothing_is_changed(capsys, copied):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != ".lock"}
    for option in ("--resume", "--evaluate"):
        status, printed = call(capsys, option, copied, "--seed", "5")
        assert status == 2
        assert "seed 5 in place of" in printed
    status, printed = call(capsys, "--report", copied, "--num-steps", "5")
    assert status == 2
    assert "the page is about the run as it was: leave out --num-steps" in printed
    assert all(path.read_bytes() == text for path, text in before.items())


@pytest.mark.slow
def test_what_changes_no_trained_number_is_written_down(capsys, copied, finished):
    status, printed = call(capsys, "--resume", copied, "--data.residence", "host")
    assert status == 0
    assert "with data.residence host in place of auto" in printed
    assert json.loads((copied / "config.json").read_text())["data"]["residence"] == "host"
    assert final_of(copied) == final_of(finished)
    status, printed = call(capsys, "--evaluate", copied, "--data.test-split", "train[:50]")
    assert status == 0
    assert "with data.test_split train[:50] in place of test[:100]" in printed


@pytest.mark.slow
def test_a_path_with_brackets_is_shown_whole(capsys, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "a[bold]b[/]")
    for option in ("--report", "--resume"):
        status, printed = call(capsys, option, folder)
        assert status == 0
        assert "a[bold]b[/]" in printed


def test_a_damaged_journal_changes_no_number(copied, finished):
    text = (copied / "metrics.jsonl").read_text()
    (copied / "metrics.jsonl").write_text(text.replace("0.", "0.9", 1)[:-40])
    assert run.main(["--resume", str(copied)]) == 0
    assert final_of(copied) == final_of(finished)
    assert (copied / "metrics.jsonl").read_text() == text


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_a_damaged_file_is_refused(capsys, copied, name):
    text = (copied / name).read_text()
    (copied / name).write_text(text.replace('"seed": 0', '"seed": 4'))
    status, printed = call(capsys, "--report", copied)
    assert status == 2
    assert f"{name} is damaged: it was changed after it was written" in printed


@pytest.mark.slow
def test_a_damaged_checkpoint_names_the_whole_one_that_can_be_taken(capsys, copied, finished):
    last, best = (max, min)
    steps = [int(path.name) for path in (copied / "checkpoints").iterdir() if path.name.isdigit()]
    if len(steps) == 1:  # the last is the best
        shutil.copytree(copied / "checkpoints" / str(steps[0]), copied / "checkpoints" / "9999")
        steps.append(9999)
    (copied / "checkpoints" / str(last(steps)) / "info" / "metadata").write_text("{")
    status, printed = call(capsys, "--resume", copied)
    assert status == 2
    assert f"--resume {copied} --checkpoint {best(steps)}" in printed
    status, printed = call(capsys, "--resume", copied, "--checkpoint", best(steps))
    assert status == 0
    assert final_of(copied) == final_of(finished)


def test_a_folder_in_use_is_refused_and_can_be_evaluated(capsys, copied):
    with files.hold(copied):
        for option in ("--resume", "--report"):
            status, printed = call(capsys, option, copied)
            assert status == 2
            assert "is in use by another command" in printed
        assert call(capsys, "--evaluate", copied)[0] == 0


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("experiments.datasets.load", ["configs/digits.py"]),
        ("experiments.loop.Run.fit", ["configs/digits.py"]),
        ("experiments.report.write", ["--report"]),
        ("experiments.loop.Run.evaluate", ["--evaluate"]),
    ],
)
def test_ctrl_c_ends_in_a_line(capsys, copied, tmp_path, monkeypatch, place, arguments):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    new = [*QUICK, "--workdir", tmp_path / "new"]
    status, printed = call(capsys, *arguments, *([copied] if len(arguments[0]) < 12 else new))
    assert status == 130
    assert printed.strip().splitlines()[-1].count("stopped") == 1


@pytest.mark.parametrize("name", ["argparse", "rich.console", "experiments.progress"])
def test_ctrl_c_while_python_imports_ends_quietly(capsys, monkeypatch, name):
    find = builtins.__import__

    def interrupt(wanted, *rest):
        if wanted == name:
            raise KeyboardInterrupt
        return find(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupt)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(run.__file__, run_name="__main__")
    assert (stop.value.code, *capsys.readouterr()) == (130, "", "")


@pytest.mark.parametrize(
    "place",
    ["experiments.files.append", "tensorboardX.record_writer.RecordWriter.flush", "experiments.files.write_sealed"],
)
@pytest.mark.slow
def test_a_full_disk_ends_in_a_line_that_says_how_to_go_on(capsys, copied, finished, monkeypatch, place):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        for name in (place, "experiments.journal.append" if place.endswith("append") else place):
            patch.setattr(name, full)
        for path in (copied / "checkpoints").iterdir():
            if not place.endswith("sealed"):
                shutil.rmtree(path)
        status, printed = call(capsys, "--resume", copied)
    assert status == 1
    assert re.search(r"stopped: .*No space left on device.*: 'somewhere'. resume with: .*--resume", printed)
    assert run.main(["--resume", str(copied)]) == 0
    assert final_of(copied) == final_of(finished)


def test_a_page_on_a_full_disk_is_a_fault(capsys, copied, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "report.html")

    monkeypatch.setattr(report, "write", full)
    status, printed = call(capsys, "--resume", copied)
    assert status == 1
    assert "no report.html, OSError: [Errno 28] No space left on device" in printed
    assert "--report" in printed
