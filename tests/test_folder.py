"""What keeps the folder of a run whole: sealed files, the journal, the lock, and names that stay inside."""

import contextlib
import errno
import json
import re
import sys

import pytest
from rich.console import Console

from experiments import config, execute, files, journal
from experiments.config import Experiment, Gallery, Study
from experiments.loop import Run
from experiments.report.page import link


def test_a_sealed_file_is_read_back_and_any_change_is_noticed(tmp_path):
    path = tmp_path / "summary.json"
    values = {"final": {"test_accuracy": 0.6417}, "seconds": 1e-7, "name": "säen"}
    files.write_sealed(path, values)
    assert files.read_sealed(path) == values
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):
            assert files.read_sealed(path).items() >= values.items()  # a space or a letter of "checksum" was changed
    path.write_text(json.dumps(values))  # as earlier versions wrote it
    assert files.read_sealed(path) == values


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/metrics.jsonl'"):
        files.append(tmp_path / "metrics.jsonl", "{}")


LINES = ['{"epoch": 1, "step": 10}', '{"epoch": 2, "step": 20}', '{"epoch": 3, "step": 30}']


def test_a_journal_is_written_anew_from_the_records(tmp_path):
    records = [json.loads(line) for line in LINES]
    (tmp_path / journal.NAME).write_text("damaged")
    with journal.opened(Experiment(), tmp_path, records[:2]) as write_down:
        write_down(records[2])
    assert [json.loads(line) for line in (tmp_path / journal.NAME).read_text().splitlines()] == records
    assert [path.stat().st_size > 0 for path in (tmp_path / "tensorboard").iterdir()] == [True]


class Fake:
    """Stands for the packages of Weights & Biases and MLflow: it remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return contextlib.nullcontext(self)

        return call


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("wandb", [("init", "jsnn"), ("log", 0.5)]),
        ("mlflow", [("set_experiment", None), ("start_run", None), ("log_params", None), ("log_metrics", 0.5)]),
    ],
)
def test_a_logger_gets_the_numbers_of_every_epoch(tmp_path, monkeypatch, kind, expected):
    fake = Fake()
    monkeypatch.setitem(sys.modules, kind, fake)
    with journal.opened(Experiment(logger=kind), tmp_path, []) as write_down:
        write_down({"epoch": 1, "step": 7, "train_loss": 0.5, "networks": [{"seed": 0}]})
    assert [name for name, _, _ in fake.calls] == [name for name, _ in expected]
    _, args, kwargs = fake.calls[-1]
    assert args == ({"epoch": 1, "step": 7, "train_loss": 0.5},)
    assert kwargs == {"step": 7}
    assert not (tmp_path / "tensorboard").exists()


def test_stages_of_one_name_in_two_folders_are_two_runs_of_wandb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := Fake())
    for study in ("first", "second", "first"):
        (tmp_path / study / "rate").mkdir(parents=True, exist_ok=True)
        with journal.opened(Experiment(logger="wandb"), tmp_path / study / "rate", []):
            pass
    first, second, again = (kwargs["id"] for _, _, kwargs in fake.calls)
    assert first == again != second


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_says_so(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ValueError, match=f"pip install {kind}"):
        Run(Experiment(logger=kind), tmp_path, Console())


def test_what_goes_wrong_in_a_logger_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Fake())
    monkeypatch.setattr(sys.modules["wandb"], "log", None, raising=False)
    failing = pytest.raises(OSError, match="logger 'wandb' failed, TypeError: 'NoneType'")
    with journal.opened(Experiment(logger="wandb"), tmp_path, []) as write_down, failing:
        write_down({"epoch": 1, "step": 7})


def test_a_logger_of_ones_own_is_a_class(tmp_path, monkeypatch):
    monkeypatch.setattr(config.Logger, "kinds", dict(config.Logger.kinds))
    seen, told, record = [], [], {"epoch": 1, "step": 7}

    class Remember(config.Logger):
        @contextlib.contextmanager
        def make(self, folder, settings):
            try:
                yield lambda record: seen.append(record.pop("step"))
            except ZeroDivisionError as error:
                told.append(error)  # and keeps it for itself
            else:
                raise KeyError("end")

    ending = pytest.raises(OSError, match="logger 'remember' failed, KeyError: 'end'")
    with ending, journal.opened(Experiment(logger=Remember()), tmp_path, []) as write_down:
        write_down(record)
    assert (seen, record) == ([7], {"epoch": 1, "step": 7})
    with pytest.raises(ZeroDivisionError) as stop, journal.opened(Experiment(logger=Remember()), tmp_path, []):
        raise ZeroDivisionError  # as what stops a training
    assert told == [stop.value]


def test_a_folder_is_held_by_one(tmp_path):
    folder = tmp_path / "run"
    with files.hold(folder):
        second = files.hold(folder)
        with pytest.raises(BlockingIOError, match=rf"{folder} is in use by another command \(process \d+ on "):
            second.__enter__()
    with files.hold(folder):  # it is free again
        pass


def test_a_start_that_was_killed_at_once_can_be_begun_anew(tmp_path):
    folder = tmp_path / "run"
    with files.hold(folder):
        (folder / "config.json.tmp").write_text("{")
    execute.check_new(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"run exists: give another --workdir$"):
        execute.check_new(folder)


@pytest.mark.parametrize("name", ["", "..", "../../x", "/tmp/x", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", "x" * 201])
def test_a_name_stays_inside_its_folder(name):
    for make in (
        lambda: Experiment(name=name),
        lambda: Gallery(name=name),
        lambda: Study(name=name, stages=(Experiment(),)),
    ):
        with pytest.raises(ValueError, match=re.escape("name must ")):
            make()


@pytest.mark.parametrize("names", [("a", "A"), ("report.html",), ("Summary.json", "b")])
def test_stages_do_not_share_a_folder_or_the_study_s_files(names):
    with pytest.raises(ValueError, match="need names of their own"):
        Study(name="study", stages=tuple(Experiment(name=name) for name in names))


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//evil.example/x", "a?b#c/report.html", 'a"><script>'])
def test_a_link_leads_nowhere_else(path):
    href = re.search('href="([^"]*)"', str(link("text", path))).group(1)
    assert re.fullmatch(r"[\w%.-][\w%./-]*", href)


def test_a_config_that_a_run_has_written_can_be_changed_and_run_again(tmp_path):
    files.write_sealed(tmp_path / "config.json", config.to_values(Experiment(seed=3)))
    text = (tmp_path / "config.json").read_text()
    assert config.from_json(text) == Experiment(seed=3)
    assert config.from_json(text.replace('"seed": 3', '"seed": 4')) == Experiment(seed=4)
