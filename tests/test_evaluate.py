"""One pass over the test set: metrics by hand, targets of every kind, examples in time, and the file that keeps it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

import jsnn
from experiments import config, evaluate, evaluation, execute
from experiments.config import Data, Experiment, Objective, Sets, Train
from experiments.loop import Run
from experiments.testing import show, subject_of
from jsnn.data import Dataset

QUIET = Console(quiet=True)
STEPS = 6


class InTime(Data):
    """Signals of two channels in 6 steps, and targets of the kind that is wanted."""

    targets: str = "classes"
    """What the targets are."""
    padding: float | None = None
    """What stands after the end of signals of different lengths; None for signals of 6 steps."""

    def make(self):
        """Return noise, and which channel is larger: overall, at every step, or by how much."""
        rng = np.random.default_rng(0)
        signals = rng.normal(size=(48, STEPS, 2)).astype(np.float32)
        more = signals[..., 1] - signals[..., 0]
        targets = {
            "classes": (more.mean(1) > 0).astype(np.int64),
            "classes of steps": (more > 0).astype(np.int64),
            "values": more.mean(1).astype(np.float32),
            "values of steps": more[..., None],
        }[self.targets]
        lengths = None
        if self.padding is not None:
            lengths = rng.integers(1, STEPS + 1, 48)
            past = np.arange(STEPS) >= lengths[:, None]
            signals[past] = self.padding
            if self.targets.endswith("steps"):
                targets[past] = 0 if targets.ndim == 2 else self.padding
        return Sets(*(self.part(one, signals, targets, lengths) for one in (slice(32), slice(32, None))))

    def part(self, some, signals, targets, lengths):
        """Return some of the examples."""
        return Dataset(
            signals[some], targets[some], in_time=True, lengths=lengths if lengths is None else lengths[some]
        )


class Readout(config.Network):
    """A layer of neurons and a readout."""

    def make(self, inputs, outputs, rngs):
        """Return the network."""
        layers = nnx.Linear(*inputs, 16, rngs=rngs), jsnn.LIF(0.5), nnx.Linear(16, outputs, rngs=rngs), jsnn.LI(0.5)
        return jsnn.Sequential(*layers)


class Autoencoder(config.Network):
    """A layer of neurons, and as many outputs as inputs."""

    def make(self, inputs, outputs, rngs):
        """Return the network."""
        size = int(np.prod(inputs))
        layers = nnx.Linear(size, 8, rngs=rngs), jsnn.LIF(0.5), nnx.Linear(8, outputs, rngs=rngs), jsnn.LI(0.5)
        return jsnn.Sequential(jsnn.flatten, *layers)


def in_time(targets, loss, **data):
    objective = Objective(decoder="mean", loss=loss)
    train = Train(epochs=2, batch_size=8, eval_batch_size=5)
    data = InTime(targets=targets, **data)
    return Experiment(name="x", num_steps=STEPS, data=data, network=Readout(), objective=objective, train=train)


EVERY = [
    ("classes", "cross_entropy", "accuracy"),
    ("classes", "ce_rate_loss", "accuracy"),
    ("classes of steps", "cross_entropy_in_time", "accuracy"),
    ("values", "mse", "mse"),
    ("values of steps", "mse_in_time", "mse"),
]


@pytest.mark.rows(1)
@pytest.mark.parametrize(("targets", "loss", "score"), EVERY)
def test_every_kind_of_target_is_trained_and_evaluated(targets, loss, score, tmp_path):
    ready = Run(in_time(targets, loss), tmp_path, QUIET)
    [final], _ = ready.fit()
    seen = evaluate.evaluate(ready, None, ready.records())
    assert seen.score == score
    assert seen.score_by_step.shape == seen.mean_score_by_step.shape == (STEPS,)
    assert len(seen.predictions) == len(seen.targets) == len(seen.losses) == 16
    if score == "accuracy":
        assert seen.is_right.mean() == pytest.approx(final["test_accuracy"])
    else:
        assert seen.losses.mean() == pytest.approx(final["test_mse"], rel=1e-5)
    if targets.endswith("steps"):  # the score of a step is that of the step's own target
        assert seen.score_by_step.mean() == pytest.approx(final[f"test_{score}"], rel=1e-5)
    seen.save(tmp_path)
    again = evaluation.load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, dataclasses.asdict(again), dataclasses.asdict(seen))


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "loss", "score"), EVERY)
def test_what_stands_in_the_padding_changes_nothing(targets, loss, score, tmp_path):
    found = []
    for padding in (0.0, 100.0):
        ready = Run(in_time(targets, loss, padding=padding), tmp_path / str(padding), QUIET)
        final, _ = ready.fit()
        seen = dataclasses.asdict(evaluate.evaluate(ready, None, []))
        for sample in (*seen["samples"], seen):  # what is padded itself
            for name in ("example", "worst_examples", "targets", "predictions"):
                sample.pop(name, None)
        found.append((final, seen))
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert len(seen["samples"][0]["outputs"]) == ready.sets.test.lengths[0]


@pytest.mark.parametrize(("targets", "loss", "score"), EVERY)
def test_outputs_in_the_padding_have_no_gradient(targets, loss, score):
    objective, lengths = Objective(decoder="mean", loss=loss), jnp.array([STEPS, 2])
    decode, evaluate_ = objective.decoder.make(), objective.loss.make()
    outputs = jax.random.normal(jax.random.key(0), (STEPS, 2, 2 if score == "accuracy" else 1))
    wanted = jnp.zeros((2, STEPS)[: 1 + targets.endswith("steps")], int if score == "accuracy" else float)
    past = np.arange(STEPS)[:, None, None] >= np.array([[STEPS], [2]])

    def value(x):
        return evaluate_(x, decode(x, lengths=lengths), wanted, lengths=lengths)[0]

    graded = jax.jit(jax.value_and_grad(value))
    expected, found = graded(outputs), graded(np.where(past, np.nan, outputs))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not np.any(np.where(past, found[1], 0))


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "loss", "score"), EVERY)
def test_every_kind_of_target_has_a_page(targets, loss, score, tmp_path, capsys):
    ready = Run(in_time(targets, loss), tmp_path, Console())
    assert execute.train(ready, Console(), "command") == 0
    assert "warning: no report.html" not in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"test_{score}" in page
    assert ("Confusion matrix" in page) == (score == "accuracy")
    final = json.loads((tmp_path / "summary.json").read_text())["final"]
    assert {f"test_{score}", f"last_{score}", "spikes_per_image"} < set(final)


class Bare(config.Network):
    """Recurrent neurons alone, which are no module of Flax."""

    def make(self, inputs, outputs, rngs):
        """Return the network."""
        return jsnn.Recurrent(jsnn.LIF(0.5), nnx.Linear(*inputs, outputs, rngs=rngs))


class Wider(Readout):
    """A network with an output more than there are classes."""

    def make(self, inputs, outputs, rngs):
        """Return the network."""
        return super().make(inputs, outputs + 1, rngs)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "names"), [(Bare(), ["0", "1"]), (Wider(), ["0", "1", "2"])])
def test_a_network_of_any_form_has_a_page(network, names, tmp_path, capsys):
    experiment = dataclasses.replace(in_time("classes", "cross_entropy"), network=network)
    assert execute.train(Run(experiment, tmp_path, Console()), Console(), "command") == 0
    assert "warning: no report.html" not in capsys.readouterr().out
    assert evaluation.load(tmp_path).class_names == names


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["mean", "last"])
def test_an_autoencoder_gives_its_inputs_back(decoder, tmp_path):
    data = Data(name="digits", train_split="train[:64]", test_split="test[:32]", reconstruct=True)
    objective = Objective(decoder=decoder, loss="mse")
    train = Train(epochs=2, batch_size=16)
    ready = Run(
        Experiment(num_steps=4, data=data, network=Autoencoder(), objective=objective, train=train), tmp_path, QUIET
    )
    [final], _ = ready.fit()
    first, last = ready.records()
    assert last["train_mse"] < first["train_mse"]
    seen = evaluate.evaluate(ready, None, [])
    assert seen.class_names == []
    np.testing.assert_allclose(seen.targets, ready.sets.test.inputs / 255, rtol=1e-6)
    assert seen.losses.mean() == pytest.approx(final["test_mse"], rel=1e-5)


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"objective": Objective(loss="mse")}, "objective.loss 'mse' is not for the targets of .* which are classes"),
        ({"num_steps": 7}, "num_steps must be 6, as the examples of"),
        ({"encoder": config.Rate()}, "encoder 'rate' is for examples without a time axis"),
        ({"network": config.RateDense()}, "network 'rate_dense' knows no time"),
        ({"train": Train(short_epochs=1, epochs=2)}, "train.short_epochs must be 0"),
        ({"objective": Objective(loss="cross_entropy_in_time")}, "must have a value for each of the 6 steps"),
        ({"data": InTime(targets="values")}, "which are values: take 'mse'"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(change, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        Run(dataclasses.replace(in_time("classes", "cross_entropy"), **change), tmp_path, QUIET)


def test_a_damaged_or_missing_file_says_how_to_make_it_again(tmp_path):
    with pytest.raises(FileNotFoundError, match="--resume"):
        evaluation.load(tmp_path)
    (tmp_path / evaluation.NAME).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"is damaged.*--resume"):
        evaluation.load(tmp_path)


@pytest.mark.parametrize("padding", [0, 2])
def test_scores_and_rates_by_hand(padding, tmp_path):
    """A network that shows its input as currents: which step decides what, and how often a neuron fires, is known."""
    ready = Run(in_time("classes", "cross_entropy"), tmp_path, QUIET)
    signals = np.zeros((2, 4 + padding, 3), np.float32)  # [N, T, classes]
    signals[0, [0, 1, 2, 3], [0, 1, 1, 1]] = 1  # right from the second step on
    signals[1, :, 2] = 1  # always right
    signals[:, 4:, 0] = 9  # wrong, and another neuron
    lengths = np.array([4, 4]) if padding else None
    ready.sets = Sets(None, Dataset(signals, np.array([1, 2]), num_classes=3, in_time=True, lengths=lengths))
    subject = subject_of(ready)._replace(
        network=jsnn.Sequential(jsnn.IF(threshold=0.5, reset="zero")), dt=0.5, last_steps=2
    )
    [seen] = show(ready, subject, [None])
    assert seen.scores["step"].tolist() == [0.5, *[1] * (3 + padding)]
    metrics = seen.metrics(subject)
    assert (metrics["last_accuracy"], metrics["mean_accuracy"], metrics["spikes_per_image"]) == (1, 1, 4)
    assert (metrics["rate_min_hz"], metrics["rate_max_hz"]) == (0, 2)
    assert metrics["rate_mean_hz"] == pytest.approx(4 / 3 / 2)


def test_a_score_of_the_whole_batch_is_the_mean_of_its_examples(tmp_path):
    """As it is in training."""
    ready = Run(in_time("classes", "cross_entropy"), tmp_path, QUIET)
    whole = subject_of(ready)

    def measure(*arguments):
        value, metrics = whole.measure(*arguments)
        return value, {name: metric.mean() for name, metric in metrics.items()}

    passes = (show(ready, subject, [None])[0] for subject in (whole, whole._replace(measure=measure)))
    of_examples, of_batches = (one.scores for one in passes)
    assert {*of_batches} == {"step", "mean", "tail"}
    for name, scores in of_batches.items():
        np.testing.assert_allclose(scores, of_examples[name], rtol=1e-6)


def test_a_network_whose_neurons_never_spike_by_kind_has_no_rates(tmp_path):
    """A readout alone: nothing spikes, so nothing is divided by the number of neurons that do."""
    ready = Run(in_time("classes", "cross_entropy"), tmp_path, QUIET)
    layers = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jsnn.LI(0.5)
    subject = subject_of(ready)._replace(network=jsnn.Sequential(*layers), dt=1e-3)
    [seen] = show(ready, subject, [None])
    assert seen.metrics(subject) == {}


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("targets", "loss", "means"), [("values of steps", "mse_in_time", set()), ("values", "mse", {"mean_mse"})]
)
def test_a_mean_over_steps_is_scored_where_it_has_a_target(targets, loss, means, tmp_path):
    ready = Run(in_time(targets, loss), tmp_path, QUIET)
    subject = subject_of(ready)
    [seen] = show(ready, subject, [None])
    assert {name for name in seen.metrics(subject) if name.startswith("mean_")} == means


@pytest.mark.slow
def test_a_diagnosis_with_labels():
    inputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    network = jsnn.convert(jax.nn.relu, inputs, dt=1.0)
    found = jsnn.conversion.diagnose(network, inputs, np.array([0, 1, 1]), num_steps=3, dt=1.0)
    assert abs(found.rate_accuracy - 2 / 3) < 1e-6
    np.testing.assert_allclose(found.accuracy, [2 / 3] * 3, atol=1e-6)
    assert found.activations[0].silent == 2 / 6  # pairs of a neuron and an input
    assert found.activations[0].saturated == 3 / 6
    assert "silent pairs" in str(found)
