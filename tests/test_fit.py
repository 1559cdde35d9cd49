"""`jsnn.train.fit`: one call trains, evaluates, stops early, saves, and goes on to the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn import train
from jsnn.checkpoint import Checkpoints
from jsnn.data import Dataset, epoch_permutation
from jsnn.train.trainer import Trainer


def loss(network, inputs, targets, key):
    _, outputs = jsnn.unroll(network, inputs, num_steps=4)
    value = jsnn.losses.cross_entropy(outputs.mean(0), targets)
    return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(outputs.mean(0), targets)}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    inputs = (np.eye(3)[labels] + 0.1 * rng.normal(size=(50, 3))).astype(np.float32)
    return Dataset(inputs[:40], labels[:40]), Dataset(inputs[40:], labels[40:])


def network():
    return jsnn.models.feedforward([3, 8, 3], rngs=nnx.Rngs(0))


def fit(data, epochs=4, **options):
    options = {"optimizer": optax.adam(1e-2), "batch_size": 12, "show": False} | options
    return train.fit(network(), loss, data[0], epochs=epochs, **options)


def weights(fitted):
    return jax.tree.leaves(nnx.state(fitted.network, nnx.Param))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, weights(a), weights(b))


def test_float64_inputs_are_those_of_float32(data):
    wide = [Dataset(one.inputs.astype(np.float64), one.targets) for one in data]
    assert_same(fit(wide, epochs=1, test=wide[1]), fit(data, epochs=1, test=data[1]))


@pytest.mark.slow
def test_it_takes_the_steps_of_a_loop_by_hand(data):
    optimizer, key = optax.adam(1e-2), jax.random.key(3)
    graph, state = train.create(network(), optimizer)
    advance = train.make_advance(graph, loss, optimizer)
    for epoch in range(2):
        order = epoch_permutation(jax.random.fold_in(key, epoch), 40, 12)
        noise = jax.random.fold_in(key, 2**31 - 1)
        state, _ = advance(state, jnp.asarray(data[0].inputs), jnp.asarray(data[0].targets), order, noise)
    fitted = fit(data, epochs=2, seed=3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), weights(fitted), jax.tree.leaves(state.params)
    )
    assert [record["step"] for record in fitted.history] == [3, 6]


@pytest.mark.slow
def test_records_have_the_means_of_all_sets(data, capsys):
    seen = []
    fitted = fit(data, test=data[1], on_epoch=seen.append, show=True)
    assert seen == fitted.history
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"} < set(fitted.history[0])
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]
    _, metrics = loss(fitted.network, jnp.asarray(data[1].inputs), jnp.asarray(data[1].targets), None)
    assert fitted.history[-1]["test_loss"] == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert capsys.readouterr().out.count("epoch 4/4: train_accuracy 1, train_loss") == 1


@pytest.mark.rows(1)
@pytest.mark.parametrize("parts", [2**28, 8])
def test_every_test_example_counts_once_in_the_mean_loss(data, parts, monkeypatch):
    whole = fit(data, epochs=1, test=data[1]).history
    monkeypatch.setattr("jsnn.train.trainer._DEVICE_BYTES", parts)
    monkeypatch.setattr("jsnn.train.trainer._PART_BYTES", parts)
    for size in (4, 3):  # of 10 examples
        monkeypatch.setitem(Trainer.__init__.__kwdefaults__, "eval_batch_size", size)
        [record] = fit(data, epochs=1, test=data[1]).history
        assert record["test_loss"] == pytest.approx(whole[0]["test_loss"], rel=1e-6)
        assert record["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=1e-6)


def test_a_training_that_was_stopped_goes_on_to_the_same_numbers(data, tmp_path):
    class Stopped(Exception):
        pass

    def stop(record):
        if record["epoch"] == 3:
            raise Stopped

    whole = fit(data)
    with pytest.raises(Stopped):
        fit(data, checkpoints=Checkpoints(tmp_path), on_epoch=stop)
    resumed = fit(data, checkpoints=Checkpoints(tmp_path))
    assert_same(resumed, whole)
    strip = [{k: v for k, v in record.items() if k != "seconds"} for record in (*resumed.history, *whole.history)]
    assert strip[:4] == strip[4:]


@pytest.mark.rows(1)
@pytest.mark.parametrize("saved", [False, True])
def test_with_a_validation_set_the_best_epoch_is_returned(data, tmp_path, saved):
    options = {"checkpoints": Checkpoints(tmp_path)} if saved else {}
    fitted = fit(data, epochs=6, validation=data[1], score="accuracy", maximize=True, **options)
    scores = [record["validation_accuracy"] for record in fitted.history]
    assert_same(fitted, fit(data, epochs=int(np.argmax(scores)) + 1))


def test_it_stops_early(data):
    options = {"test": data[1], "score": "accuracy", "maximize": True, "patience": 2}
    rounds = fit(data, epochs=30, on_epoch=dict.clear, **options).history  # of a record of its own
    scores = [record["test_accuracy"] for record in rounds]
    assert len(rounds) < 30
    assert max(scores[-2:]) <= max(scores[:-2])


def test_batch_normalisation_learns_its_averages_and_is_fixed_in_the_end(data):
    layers = nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.BatchNorm(8, rngs=nnx.Rngs(0)), jsnn.LIF(0.5)
    normalised = jsnn.Sequential(*layers, nnx.Linear(8, 3, rngs=nnx.Rngs(1)), jsnn.LI(0.5))
    fitted = train.fit(normalised, loss, data[0], optimizer=optax.adam(1e-2), epochs=2, batch_size=12, show=False)
    assert np.abs(fitted.network.layers[1].mean[...]).max() > 0.01
    assert fitted.network.layers[1].use_running_average
    np.testing.assert_array_equal(normalised.layers[1].mean[...], np.zeros(8))


def giving(change):
    """Return a loss that gives what `change` makes of the value, the metrics and the inputs."""
    return lambda network, inputs, targets, key: change(*loss(network, inputs, targets, key), inputs)


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 41}, "batch_size must be at most the 40 training examples, got 41"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"patience": 0}, "patience must be >= 1, or None"),
        ({"score": "f1"}, r"score must be one of the metrics of the loss, got 'f1': there are \['accuracy', 'loss'\]"),
        ({"score": "accuracy"}, "maximize must be given for the score 'accuracy': True, as the highest is the best"),
        ({"network": jsnn.LIF(0.9)}, "the network has nothing to train"),
        ({"checkpoints": "runs/mine"}, r"must be jsnn.checkpoint.Checkpoints\(folder\), got the path 'runs/mine'"),
        ({"optimizer": optax.MultiSteps(optax.adam(1e-2), 2)}, r"must be .*: pass its gradient_transformation\(\)"),
        ({"optimizer": nnx.Optimizer(network(), optax.adam(1e-2), wrt=nnx.Param)}, "must be .*: pass its tx"),
        ({"loss": giving(lambda value, metrics, x: value)}, r"loss must return \(scalar, metrics\).* got an array"),
        ({"loss": giving(lambda value, metrics, x: (value, value))}, r"got \(an array, an array\)"),
        ({"loss": giving(lambda value, metrics, x: (x[:, 0], metrics))}, r"must return a scalar, got shape \(12,\)"),
        ({"loss": giving(lambda value, metrics, x: (value, {"accuracy": value}))}, "'loss' among its metrics, got acc"),
        ({"loss": giving(lambda value, metrics, x: (value, metrics | {"x": x}))}, r"metric 'x' .* got shape \(12, 3\)"),
        ({"loss": giving(lambda value, metrics, x: (value, metrics | {"x": {}}))}, "metric 'x' .* got a dict"),
        ({"loss": giving(lambda value, metrics, x: (value, metrics | {"x": None}))}, "metric 'x' .* got a NoneType"),
        ({"loss": giving(lambda value, metrics, x: (value, metrics | {"x": "a"}))}, "metric 'x' .* got a str"),
        ({"loss": giving(lambda value, metrics, x: (value, metrics | {"count": value}))}, "may not be called 'count'"),
    ],
)
def test_bad_input_is_found_before_the_first_step(data, options, match, monkeypatch):
    monkeypatch.setattr(Trainer, "run", None)
    options = {"network": network(), "loss": loss, "epochs": 1, "optimizer": optax.adam(1e-2)} | options
    with pytest.raises((ValueError, TypeError), match=match):
        train.fit(data=data[0], show=False, **{"batch_size": 12} | options)


@pytest.mark.slow
def test_a_folder_belongs_to_one_training(data, tmp_path):
    def run(folder=tmp_path, read_only=False, data=data, **options):
        return fit(data, checkpoints=Checkpoints(folder, read_only=read_only), validation=data[1], **options)

    run(epochs=2)
    smaller = Dataset(data[0].inputs[:36], data[0].targets[:36]), data[1]
    for name, options in {
        "seed 0, got 1": {"seed": 1},
        "batch_size 12, got 6": {"batch_size": 6},
        "score 'loss', got 'accuracy'": {"score": "accuracy"},
        "truncate None, got 2": {"truncate": 2},
        "accumulate 1, got 2": {"accumulate": 2},
        r"len\(data\) 40, got 36": {"data": smaller},
        "epochs must be at least 2, which .* has already, got 1": {"epochs": 1},
        "checkpoints must be open for writing": {"read_only": True},
    }.items():
        with pytest.raises(ValueError, match=name):
            run(**options)
    Checkpoints(tmp_path / "other").save(1, train.create(network(), optax.adam(1e-2))[1], {})
    with pytest.raises(ValueError, match="were not saved by fit"):
        run(tmp_path / "other")


def test_weights_that_are_not_finite_are_noticed_though_the_loss_is(data):
    def silent(network, *batch):
        value = sum(jnp.sum(jnp.sqrt(0 * leaf)) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
        return value, {"loss": value}  # 0, with a gradient of NaN

    with pytest.raises(train.NotFinite, match=r"weights are NaN or infinite at the end of epoch 1 \(step 1\)"):
        train.fit(network(), silent, data[0], optimizer=optax.sgd(0.1), epochs=1, batch_size=len(data[0]), show=False)


def test_a_loss_that_is_not_finite_names_its_step(data):
    with pytest.raises(train.NotFinite, match=r"the loss is nan at step \d+ \(epoch \d\)"):
        fit(data, optimizer=optax.sgd(float("inf")))
