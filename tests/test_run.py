"""The runner from the outside: what a command prints, writes, refuses, and how a run stops and goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from experiments import report, run

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
    """Runs a command in this process; returns its exit status and what it printed, on one line."""
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


def test_help_shows_every_field(capsys):
    status, printed = call(capsys, "configs/digits.py", "--help")
    assert status == 0
    for text in ("--train.epochs", "--encoder.kind", "Passes over the training set", "--data.name", "--workdir"):
        assert text in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/digit.py"], "there is no config configs/digit.py: did you mean configs/digits.py?"),
        (["configs/digits.py", "--train.epochz", "3"], "--train.epochs"),
        (["configs/digits.py", "--train.epochs", "0"], "greater than 0"),
        (["configs/digits.py", "--train.epochs", "many"], "many"),
        (["configs/digits.py", "--model.decay", "1.5"], "less than or equal to 1"),
        (["configs/digits.py", "--data.name", "digitz"], "digits"),
        (["configs/digits.py", "--optimizer.name", "adamm"], "did you mean 'adam'?"),
        (["configs/digits.py", "--train.batch-size", "5000"], "train.batch_size must be <= the 1437 training images"),
        (["configs/digits.py", "--train.patience", "2"], "train.patience needs data.validation_split"),
        (["configs/digits.py", "--optimizer.options", "weight_decoy", "1e-4"], "optax.adam (b1, b2, eps, "),
        (["configs/digits.py", "--data.mean", "0.1", "0.2"], "mean must be a number or one per channel (1), got (2,)"),
        (["configs/digits.py", "--data.shift", "8"], "the images of digits cannot be prepared as data says: pixels"),
        (["--resume", "nowhere", "configs/digits.py"], "nowhere has a config of its own: leave out configs/digits.py"),
        (["--resume", "nowhere"], "nowhere is not the folder of a run"),
        (["--evaluate", "nowhere"], "nowhere is not the folder of a run"),
        (["--checkpoint", "worst"], "worst"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, arguments, message):
    if arguments[0].startswith("configs"):
        arguments = [*arguments, "--workdir", tmp_path / "run"]
    status, printed = call(capsys, *arguments)
    assert status == 2
    assert message in printed
    assert not (tmp_path / "run").exists()


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
    assert "lower optimizer.learning_rate" in printed
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_step_that_does_not_fit_stops_the_run_before_it_begins(capsys, monkeypatch, tmp_path):
    few = types.SimpleNamespace(available=2**10)
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
    assert "stopped: the fused kernel does not compile here (NotImplementedError: Unimplemented primitive" in " ".join(
        printed.split()
    )
    assert "--train.method scan" in " ".join(printed.split())
    assert "Traceback" not in printed
    assert "and much more" not in printed


def test_an_evaluation_that_does_not_fit_is_refused(capsys, monkeypatch, finished):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2**10))
    status, printed = call(capsys, "--evaluate", finished)
    assert status == 1
    assert re.search(r"this takes 0\.\d GiB of memory, and .* has 0\.0 GiB: take a smaller batch", printed)


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


def test_streamed_data_gives_the_numbers_of_resident_data(finished, tmp_path):
    assert run.main(["configs/digits.py", *QUICK, "--data.residence", "host", "--workdir", str(tmp_path / "run")]) == 0
    first, streamed = (json.loads((f / "summary.json").read_text())["final"] for f in (finished, tmp_path / "run"))
    assert first == streamed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run.main(["configs/digits.py", "--train.epochs", "6", "--workdir", str(folder)]) == 0
    return json.loads((folder / "summary.json").read_text())["final"]


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
