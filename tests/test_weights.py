"""Weights of other libraries: the same outputs as theirs, a report of what went where, and nothing done by halves."""

import io
import json
import pickle
import zipfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import close
from safetensors.numpy import save_file

import jsnn
from jsnn.compat import keras_spiking, norse, snntorch, spikingjelly
from jsnn.weights import WeightsError, from_keras, from_torch, load

DATA = Path(__file__).parent / "data"


def linear(*sizes, **choices):
    return nnx.Linear(*sizes, rngs=nnx.Rngs(0), **choices)


def conv(*sizes, **choices):
    return jsnn.Conv(*sizes, rngs=nnx.Rngs(0), **choices)


def snntorch_dense():
    layers = []
    for inputs, outputs in ((4, 7), (7, 6), (6, 6), (6, 6), (6, 6), (6, 3)):
        layers += [linear(inputs, outputs), snntorch.leaky(beta=0.5, learn_beta=True)]
    return jsnn.Sequential(*layers), (4,)


def snntorch_recurrent():
    cell = snntorch.rleaky(beta=0.5, linear_features=5, rngs=nnx.Rngs(0))
    return jsnn.Sequential(linear(4, 5), cell, linear(5, 3), snntorch.rleaky(beta=0.5, all_to_all=False)), (4,)


def norse_conv():
    front = jsnn.Sequential(conv(2, 3, (3, 3), padding="VALID"), norse.lif(v_th=0.2), jsnn.max_pool)
    cell = norse.lif_recurrent(6, 5, rngs=nnx.Rngs(0), v_th=0.3)
    readout = norse.li_linear(5, 2, rngs=nnx.Rngs(0))
    return jsnn.Sequential(front, jsnn.flatten, linear(18, 6), cell, readout), (6, 8, 2)


def spikingjelly_conv():
    norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
    first = conv(2, 3, (3, 3), use_bias=False)
    plif, lif = spikingjelly.parametric_lif_node(v_threshold=0.4), spikingjelly.lif_node(v_threshold=0.1)
    return jsnn.Sequential(first, norm, plif, jsnn.avg_pool, jsnn.flatten, linear(18, 4), lif), (4, 6, 2)


def keras():
    norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
    first = conv(2, 3, (3, 3), padding="VALID")
    layers = first, nnx.relu, norm, jsnn.flatten, linear(36, 4), nnx.relu, linear(4, 2)
    return nnx.Sequential(*layers), (5, 6, 2)


LEFT_OUT = {"graded_spikes_factor", "reset_mechanism_val", "num_batches_tracked", "V"}  # V twice, the other is in


def golden(name):
    with np.load(DATA / f"weights_{name}.npz") as file:
        content = dict(file)
    return content | {"inputs": content["inputs"].astype(np.float32) / 16}


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [snntorch_dense, snntorch_recurrent, norse_conv, spikingjelly_conv])
def test_outputs_are_theirs(make):
    network, shape = make()
    before = jax.tree.leaves(network)
    filled, report = from_torch(network, load(DATA / f"weights_{make.__name__}.safetensors"), shape)
    expected = golden(make.__name__)
    inputs = np.moveaxis(expected["inputs"], 2, -1)
    _, outputs = jax.jit(jsnn.unroll)(filled, inputs)
    if make is norse_conv:
        close(outputs, expected["outputs"], 1e-4)
    else:
        np.testing.assert_array_equal(outputs, expected["outputs"])
    assert all(a is b for a, b in zip(jax.tree.leaves(network), before, strict=True))
    assert {name.rpartition(".")[2] for name in report.left_out} <= LEFT_OUT


def test_report_says_what_went_where():
    network, shape = spikingjelly_conv()
    _, report = from_torch(network, load(DATA / "weights_spikingjelly_conv.safetensors"), shape)
    lines = str(report).splitlines()
    assert [" ".join(line.split()) for line in lines if line.startswith(("0", "1.n", "2", "5.weight"))] == [
        "0.weight (3, 2, 3, 3) -> layers[0].kernel (3, 3, 2, 3) transposed",
        "1.num_batches_tracked () -> left out only counts",
        "2.w () -> layers[2].w ()",
        "5.weight (4, 18) -> layers[5].kernel (18, 4) transposed, from (C, H, W) to (H, W, C)",
    ]
    assert report.left_out == ("1.num_batches_tracked",)


@pytest.mark.rows(2)
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5", "model.h5", "arrays.npz", "keras_2.keras"])
def test_keras_files(file, tmp_path):
    expected = golden("keras")
    if file == "arrays.npz":
        np.savez(tmp_path / file, **{name: array for name, array in expected.items() if name.startswith("arr_")})
    elif file == "keras_2.keras":
        (tmp_path / file).write_bytes(expected["model.h5"].tobytes())
    else:
        (tmp_path / file).write_bytes(expected[file].tobytes())
    network, shape = keras()
    filled, report = from_keras(network, load(tmp_path / file), shape)
    close(jax.jit(filled)(expected["inputs"]), expected["outputs"])
    assert report.left_out == ()


@pytest.mark.parametrize("named", [True, False], ids=["named", "by position"])
def test_trained_filters_of_keras_spiking(named):
    """Its Lowpass has an axis for the batch, its Alpha one axis for all units; a filter not trained gets nothing."""
    arrays = {
        "dense/kernel:0": np.eye(6), "dense/bias:0": np.zeros(6),
        "lowpass/lowpass_cell/initial_level:0": np.arange(6.0)[None],
        "lowpass/lowpass_cell/tau:0": np.full((1, 6), 3.0),
        "alpha/alpha_cell/initial_level:0": np.arange(6.0, 12.0), "alpha/alpha_cell/tau:0": np.full(6, 0.25),
        "dense_1/kernel:0": np.ones((6, 2)), "dense_1/bias:0": np.zeros(2),
    }  # fmt: skip
    filters = keras_spiking.lowpass(0.1, 6, dt=0.01), keras_spiking.alpha(0.1, (2, 3), dt=0.01)
    image, flat = (lambda x: x.reshape(-1, 2, 3)), (lambda x: x.reshape(-1, 6))
    network = jsnn.Sequential(
        linear(6, 6), filters[0], image, filters[1], flat, linear(6, 2), jsnn.filters.Lowpass(0.1)
    )
    given = arrays if named else {f"arr_{index}": array for index, array in enumerate(arrays.values())}
    filled, report = from_keras(network, given, (6,))
    first, second = filled.layers[1], filled.layers[3]
    assert report.left_out == ()
    assert isinstance(first.tau, nnx.Param)
    close(first.initial_level[...], np.arange(6))
    close(first.tau[...], np.full(6, 3.0))
    close(second.initial_level[...], np.arange(6, 12).reshape(2, 3))
    close(second.tau[...], np.full((2, 3), 0.25))


def test_order_of_names():
    arrays = {"b.weight": np.full((3, 3), 2.0), "a.weight": np.full((3, 3), 1.0)}
    network = jsnn.Sequential(linear(3, 3, use_bias=False), jsnn.LIF(), linear(3, 3, use_bias=False))
    with pytest.warns(
        UserWarning, match=r"in the order .* defined, but 'b' and 'a' fit in each other's place.*order=\('b'"
    ):
        assert from_torch(network, arrays, (3,))[0].layers[0].kernel[0, 0] == 2.0
    assert from_torch(network, arrays, (3,), order=("a",))[0].layers[0].kernel[0, 0] == 1.0
    with pytest.raises(WeightsError, match=r"order names \['c'\]"):
        from_torch(network, arrays, (3,), order=("c",))


SQUARES = {"b.weight": np.full((3, 3), 2.0), "a.weight": np.full((3, 3), 1.0)}


def renamed(*names):
    return {f"{name}.weight": array for name, array in zip(names, SQUARES.values())}


@pytest.mark.parametrize(
    ("arrays", "order", "outcome"),
    [  # the weight in the first layer, or what is raised
        (renamed("fc1", "fc2"), (), 2.0),
        (renamed("2", "10"), (), 2.0),
        (renamed("fc", "fc_1"), (), 2.0),
        (renamed("features.0", "features.2"), (), 2.0),
        (renamed("fc2", "fc1"), (), UserWarning),  # defined in another order than the names say
        (renamed("encoder", "decoder"), (), UserWarning),
        (renamed("features.0", "classifier.0"), (), UserWarning),
        (renamed("encoder", "decoder"), ("decoder",), 1.0),
        ({name: np.ones((3, 3)) for name in renamed("encoder", "decoder")}, (), 1.0),  # all the same which is where
    ],
)
@pytest.mark.parametrize("keeps_order", [True, False], ids=["state_dict", "safetensors"])
def test_layers_that_could_change_places(arrays, order, outcome, keeps_order, tmp_path):
    network = jsnn.Sequential(linear(3, 3, use_bias=False), jsnn.LIF(), linear(3, 3, use_bias=False))
    if not keeps_order:
        save_file(arrays, tmp_path / "a.safetensors")
        arrays = load(tmp_path / "a.safetensors")
    if outcome is not UserWarning:
        assert from_torch(network, arrays, (3,), order=order)[0].layers[0].kernel[0, 0] == outcome
    elif keeps_order:
        with pytest.warns(UserWarning, match="fit in each other's place, 1 such pairs in all: give the order"):
            from_torch(network, arrays, (3,))
    elif list(arrays) == ["fc1.weight", "fc2.weight"]:
        assert from_torch(network, arrays, (3,))[0].layers[0].kernel[0, 0] == 1.0
    else:
        with pytest.raises(WeightsError, match=r"does not say in which order .*: give the order .*order=\('"):
            from_torch(network, arrays, (3,))


def test_shapes_tell_the_order_where_a_file_does_not(tmp_path):
    save_file({"in.weight": np.ones((3, 4)), "a.weight": np.ones((2, 3))}, tmp_path / "a.safetensors")
    network = jsnn.Sequential(linear(4, 3, use_bias=False), linear(3, 2, use_bias=False))
    _, report = from_torch(network, load(tmp_path / "a.safetensors"), (4,))
    assert [(move.source, move.target) for move in report.moves] == [
        ("a.weight", "layers[1].kernel"), ("in.weight", "layers[0].kernel"),
    ]  # fmt: skip
    with pytest.raises(WeightsError, match=r"a.weight .* does not fit"):  # what the user says goes before
        from_torch(network, load(tmp_path / "a.safetensors"), (4,), order=("a", "in"))


def test_neurons_that_could_change_places():
    network = jsnn.Sequential(jsnn.LIF(), jsnn.LIF())
    arrays = {"late.beta": np.array(0.5), "early.beta": np.array(0.25)}
    with pytest.warns(UserWarning, match="'late' and 'early' fit in each other's place"):
        from_torch(network, arrays, (3,))
    assert from_torch(network, arrays, (3,), order=("early", "late"))[0].layers[0].decay == 0.25


KERAS_NAMES = {  # in the order in which they run
    "layers/sequential/layers/dense": 1.0, "layers/sequential/layers/dense_1": 2.0, "layers/dense": 3.0,
    "layers/sequential_1/layers/dense": 4.0, "layers/dense_1": 5.0,
}  # fmt: skip


def keras_layer(kind, *inside):
    return {"class_name": kind, "config": {"layers": list(inside)} if inside else {"units": 3}}


def write_keras(path, config, names=KERAS_NAMES, model=""):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, value in names.items():
            file[f"{name}/vars/0"] = np.full((3, 3), value)
        file.create_group("vars").attrs["name"] = model
    if path.suffix == ".h5":
        path.write_bytes(content.getvalue())
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", content.getvalue())
        if config is not None:
            archive.writestr("config.json", config)


CONFIG = json.dumps(
    keras_layer(
        "Sequential", keras_layer("InputLayer"),
        keras_layer("Sequential", keras_layer("InputLayer"), keras_layer("Dense"), keras_layer("Dense")),
        keras_layer("Dense"), keras_layer("Sequential", keras_layer("Dense")), keras_layer("ReLU"),
        keras_layer("Dense"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("file", "config", "is_known"),
    [
        ("a.keras", CONFIG, True),
        ("a.weights.h5", None, False),
        ("a.keras", None, False),
        ("a.keras", '{"class_name": "MyModel", "config": {"size": 3}}', False),
        ("a.keras", "[" * 10_000, False),
        ("a.keras", "no JSON", False),
        ("a.keras", '{"config": {"layers": [1, {"class_name": 3, "config": []}, null]}}', False),
    ],
    ids=["sequential", "weights", "without", "subclassed", "deep", "broken", "other"],
)
def test_the_order_of_nested_keras_models(file, config, is_known, tmp_path):
    write_keras(tmp_path / file, config)
    arrays = load(tmp_path / file)
    network = nnx.Sequential(*(linear(3, 3, use_bias=False) for _ in KERAS_NAMES))
    order = () if is_known else tuple(KERAS_NAMES)
    filled, _ = from_keras(network, arrays, (3,), order=order)
    assert [layer.kernel[0, 0] for layer in filled.layers] == list(KERAS_NAMES.values())
    if not is_known:
        with pytest.raises(WeightsError, match=r"does not say in which order .*order=\('layers/"):
            from_keras(network, arrays, (3,))


def test_a_flat_keras_model_needs_no_order(tmp_path):
    names = {"layers/dense": 1.0, "layers/dense_1": 2.0, "layers/dense_10": 11.0}
    write_keras(tmp_path / "a.weights.h5", None, names)
    network = nnx.Sequential(*(linear(3, 3, use_bias=False) for _ in names))
    filled, _ = from_keras(network, load(tmp_path / "a.weights.h5"), (3,))
    assert [layer.kernel[0, 0] for layer in filled.layers] == list(names.values())


@pytest.mark.parametrize(
    ("file", "model"), [("a.keras", "my_model"), ("a.weights.h5", "my_model"), ("a.weights.h5", "")]
)
def test_layers_of_a_subclassed_keras_model_are_numbered_as_they_were_made(file, model, tmp_path):
    names = {"layers/dense": 1.0, "layers/dense_1": 2.0}
    write_keras(tmp_path / file, '{"class_name": "MyModel", "config": {}}', names, model)
    network = nnx.Sequential(*(linear(3, 3, use_bias=False) for _ in names))
    if model:
        with pytest.warns(UserWarning, match=r"in the order .* defined, but 'layers/dense' and 'layers/dense_1' fit"):
            from_keras(network, load(tmp_path / file), (3,))
    order = ("layers/dense_1",) if model else ()
    filled, _ = from_keras(network, load(tmp_path / file), (3,), order=order)
    assert [layer.kernel[0, 0] for layer in filled.layers] == ([2.0, 1.0] if model else [1.0, 2.0])


def test_a_huge_configuration_is_not_read(tmp_path):
    write_keras(tmp_path / "a.keras", CONFIG)
    assert load(tmp_path / "a.keras").order
    write_keras(tmp_path / "a.keras", CONFIG + " " * 2**24)
    assert not load(tmp_path / "a.keras").order


def test_arrays_are_a_dictionary_and_a_shape_is_a_tuple():
    network = jsnn.Sequential(linear(3, 3))
    with pytest.raises(TypeError, match=r"arrays must be a dictionary, got str: read a file with jsnn.weights.load"):
        from_torch(network, "weights.pt", (3,))
    with pytest.raises(TypeError, match=r"arrays must be a dictionary, got list"):
        from_keras(network, [np.ones((3, 3)), np.ones(3)], (3,))
    with pytest.raises(TypeError, match=r"order must be a list of the names of modules, got \(0,\)"):
        from_torch(network, {}, (3,), order=(0,))
    with pytest.raises(TypeError, match=r"network must be a network or a module of Flax, got int"):
        from_torch(3, {}, (3,))
    with pytest.raises(TypeError, match=r"shape must be a tuple of whole numbers, such as \(784,\) .* got 3"):
        from_torch(network, {}, 3)


def test_parameters_of_neurons():
    """A fixed number stays one, an array per neuron of a convolution gets our axes, a trained one stays trained."""
    network = jsnn.Sequential(
        jsnn.LIF(), jsnn.flatten, snntorch.synaptic(0.1, 0.1, learn_alpha=True), jsnn.ParametricLIF()
    )
    beta = np.arange(24).reshape(3, 2, 4) / 24
    arrays = {
        "0.beta": beta, "0.threshold": np.float32(0.5), "1.alpha": np.linspace(0, 1, 24), "1.beta": np.array(1.5),
        "1.graded_spikes_factor": np.array(1.0), "1.reset_mechanism_val": np.array(0), "2.w": np.array(-1.0),
        "2.tau": np.array(3.0),
    }  # fmt: skip
    filled, report = from_torch(network, arrays, (2, 4, 3))
    first, _, second, third = filled.layers
    close(first.decay, np.moveaxis(beta, 0, -1))
    assert (first.threshold, second.decay, third.w[...]) == (0.5, 1.0, -1.0)
    assert isinstance(second.decay_syn, nnx.Param)
    close(second.decay_syn[...], np.moveaxis(arrays["1.alpha"].reshape(3, 2, 4), 0, -1).ravel())
    assert report.left_out == ("1.graded_spikes_factor", "1.reset_mechanism_val", "2.tau")


def test_a_normalisation_without_running_averages():
    network = jsnn.Sequential(linear(2, 2, use_bias=False), nnx.LayerNorm(2, rngs=nnx.Rngs(0)), linear(2, 2))
    scale, bias = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    arrays = {"0.weight": np.eye(2), "1.weight": scale, "1.bias": bias, "2.weight": np.eye(2), "2.bias": np.zeros(2)}
    norm = from_torch(network, arrays, (2,))[0].layers[1]
    close(norm.scale[...], scale)
    close(norm.bias[...], bias)


def test_the_beta_of_lapicque_is_not_its_decay():
    network = jsnn.Sequential(snntorch.lapicque(beta=0.8, R=5.0))
    arrays = {"0.beta": np.array(0.8), "0.R": np.array(5.0), "0.C": np.array(0.9), "0.threshold": np.array(0.25)}
    filled, report = from_torch(network, arrays, (3,))
    assert (filled.layers[0].decay, filled.layers[0].threshold) == (network.layers[0].decay, 0.25)
    assert report.left_out == ("0.beta", "0.R", "0.C")


def test_what_hears_a_flattened_image_hears_it_in_our_order():
    """A normalisation, all that a recurrence is made of, and the neurons' own parameters."""
    order = np.moveaxis(np.arange(12).reshape(3, 2, 2), 0, -1).ravel()  # ours, counted in PyTorch's
    norm = nnx.BatchNorm(12, use_running_average=True, rngs=nnx.Rngs(0))
    cell = snntorch.rleaky(beta=np.full(12, 0.5), linear_features=12, rngs=nnx.Rngs(0))
    weights, row = np.arange(144.0).reshape(12, 12), np.arange(12.0) / 12
    norms = {f"1.{name}": row for name in ("weight", "bias", "running_mean", "running_var")}
    arrays = norms | {"2.recurrent.weight": weights, "2.recurrent.bias": row, "2.beta": row}
    filled, _ = from_torch(jsnn.Sequential(jsnn.flatten, norm, cell), arrays, (2, 2, 3))
    _, norm, cell = filled.layers
    for array in (norm.scale, norm.bias, norm.mean, norm.var, cell.synapse.bias):
        close(array[...], row[order])
    close(cell.neuron.decay, row[order])
    close(cell.synapse.kernel[...], weights.T[np.ix_(order, order)])


def test_what_stands_behind_a_dense_layer_hears_no_image():
    network = jsnn.Sequential(jsnn.flatten, *(linear(12, 12, use_bias=False) for _ in range(2)))
    weights = np.arange(144.0).reshape(12, 12)
    filled, report = from_torch(network, {"1.weight": weights, "2.weight": weights}, (2, 2, 3))
    close(filled.layers[2].kernel[...], weights.T)
    assert [move.action for move in report.moves] == ["transposed, from (C, H, W) to (H, W, C)", "transposed"]


@pytest.mark.parametrize("name", ["0.recurrent.V", "0.V"])  # the second is left where a file keeps no array twice
def test_one_to_one_recurrence_behind_a_convolution(name):
    network = jsnn.Sequential(snntorch.rleaky(beta=0.5, V=np.zeros((2, 4, 3)), all_to_all=False))
    v = np.arange(24.0).reshape(3, 2, 4)
    filled, report = from_torch(network, {name: v}, (2, 4, 3))
    close(filled.layers[0].synapse.V[...], np.moveaxis(v, 0, -1))
    assert report.moves[0].action == "from (C, H, W) to (H, W, C)"


def test_neurons_of_another_number_are_left_out():
    network = jsnn.Sequential(linear(2, 2, use_bias=False), jsnn.LIF(0.5))
    arrays = {"0.weight": np.eye(2), "1.beta": np.array(0.9), "2.beta": np.array(0.9)}
    filled, report = from_torch(network, arrays, (2,))
    assert filled.layers[1].decay == 0.5
    assert report.left_out == ("1.beta", "2.beta")
    assert "2 such neurons there, 1 here" in str(report)


DENSE = {"0.weight": np.ones((3, 4)), "0.bias": np.zeros(3), "2.weight": np.ones((2, 3)), "2.bias": np.zeros(2)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"0.weight": np.ones((3, 5)), "2.bias": np.ones(7)}, [
            "0.weight (3, 5), here (5, 3), does not fit layers[0].kernel (4, 3)",
            "2.bias (7,) does not fit layers[2].bias (2,)",
        ]),
        ({"0.weight": np.ones((4, 3))}, ["0.weight (4, 3), here (3, 4), does not fit layers[0].kernel (4, 3)"]),
        ({"2.weight": None, "2.bias": None}, ["layers[2] (Linear) gets no weights"]),
        ({"2.bias": None}, ["layers[2].bias gets no weights from 2"]),
        ({"3.weight": np.ones((2, 2))}, ["3.weight (2, 2) has no layer left to go to"]),
        ({"0.weight_hh": np.ones((2, 2))}, ["0.weight_hh (2, 2) has no counterpart in layers[0] (Linear)"]),
        ({"9.running_mean": np.ones(2)}, ["9.running_mean (2,) has no norm left to go to"]),
        ({"1.recurrent.weight": np.ones((3, 3))}, ["1.recurrent.weight (3, 3) has no synapse left to go to"]),
        ({"1.beta": np.ones(4)}, ["1.beta (4,) does not fit layers[1], neurons (3,)"]),
        ({"1.threshold": np.array(-1.0)}, ["layers[1] does not take its weights: threshold must be > 0, got -1.0"]),
        ({"1.beta": np.array(0.5), "1.reset_mechanism_val": np.array(1)}, [
            "1.reset_mechanism_val () says reset='zero', layers[1] has 'subtract'"
        ]),
        ({"1.beta": np.array(0.5), "1.graded_spikes_factor": np.array(2.0)}, ["1.graded_spikes_factor () is 2.0"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(changes, said):
    network = jsnn.Sequential(linear(4, 3), jsnn.LIF(), linear(3, 2))
    arrays = {name: array for name, array in (DENSE | changes).items() if array is not None}
    with pytest.raises(WeightsError) as caught:
        from_torch(network, arrays, (4,))
    faults = str(caught.value).splitlines()[1:-1]
    assert len(faults) == len(said), faults
    assert all(sentence in fault for sentence, fault in zip(said, faults)), faults


def test_too_many_and_too_few_positions():
    network = nnx.Sequential(linear(3, 2))
    arrays = {f"arr_{index}": array for index, array in enumerate((np.ones((3, 2)), np.ones(2), np.ones(2)))}
    with pytest.raises(WeightsError, match=r"arr_2 \(2,\) has no layer left"):
        from_keras(network, arrays, (3,))
    with pytest.raises(WeightsError, match=r"layers\[0\].bias gets no weights"):
        from_keras(network, {"arr_0": np.ones((3, 2))}, (3,))


class Gradual:
    """As a tensor of PyTorch with a gradient: it gives no array."""

    def __array__(self, *_, **__):
        raise RuntimeError("requires grad")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({0: np.ones(3)}, r"the names of arrays must be texts, such as '0.weight', got 0"),
        ({"state_dict": {"a": 1}}, r"'state_dict' is no array but a dict of 1: give what is in it"),
        ({"a": Gradual()}, r"'a' is no array \(requires grad\); of a PyTorch tensor give x.detach\(\).float\(\)"),
        ({"a": np.array(["b"])}, r"'a' must be an array of real numbers, got <U1"),
        ({"a": None}, r"'a' must be an array of real numbers, got object"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_named(arrays, said):
    network = jsnn.Sequential(linear(3, 3))
    for put in (from_torch, from_keras, lambda network, arrays, _: jsnn.weights.from_jsnn(network, arrays)):
        with pytest.raises(TypeError, match=said):
            put(network, arrays, (3,))


def test_a_layer_in_several_places_of_a_chain():
    """PyTorch holds its arrays for each of them, or once as `named_parameters` does; Keras once."""
    shared, arrays = linear(3, 3), {"weight": np.arange(9.0).reshape(3, 3), "bias": np.ones(3)}
    network = jsnn.Sequential(shared, jsnn.LIF(), shared)
    twice = {f"{place}.{name}": array for place in (0, 2) for name, array in arrays.items()}
    single = {name: array for name, array in twice.items() if name.startswith("0.")}
    keras_arrays = {"arr_0": arrays["weight"].T, "arr_1": arrays["bias"]}
    for filled, report in (
        from_torch(network, twice, (3,)), from_torch(network, single, (3,)), from_keras(network, keras_arrays, (3,))
    ):  # fmt: skip
        assert filled.layers[0] is filled.layers[2]
        close(filled.layers[0].kernel[...], arrays["weight"].T)
        assert report.left_out == ()
    with pytest.raises(WeightsError, match=r"2.bias \(3,\) is another array for layers\[2\].bias, which .* several"):
        from_torch(network, twice | {"2.bias": np.zeros(3)}, (3,))


def test_a_normalisation_by_the_root_of_the_mean_square():
    arrays = {"0.weight": np.eye(2), "1.weight": np.array([1.0, 2.0])}
    module = nnx.Sequential(linear(2, 2, use_bias=False), nnx.RMSNorm(2, rngs=nnx.Rngs(0)))
    for network in (module, jsnn.Network(module)):
        filled, _ = from_torch(network, arrays, (2,))
        close(jax.tree.leaves(nnx.state(filled))[-1], [1.0, 2.0])


def random(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def depthwise(x, w):
    """[B, H, W, I] with Keras' [h, w, I, multiplier]: the multiples of the first channel come first."""
    rows, columns, channels, multiplier = w.shape
    y = np.zeros((len(x), x.shape[1] - rows + 1, x.shape[2] - columns + 1, channels, multiplier))
    for i, j, c, m in np.ndindex(*w.shape):
        y[..., c, m] += x[:, i : i + y.shape[1], j : j + y.shape[2], c] * w[i, j, c, m]
    return y.reshape(*y.shape[:3], -1)


def transposed(x, w):
    """[B, H, W, I] with Keras' [h, w, O, I], in strides of 2: each input lays down a kernel."""
    y = np.zeros((len(x), 2 * x.shape[1] + w.shape[0] - 2, 2 * x.shape[2] + w.shape[1] - 2, w.shape[2]))
    for b, h, v in np.ndindex(*x.shape[:3]):
        y[b, 2 * h : 2 * h + w.shape[0], 2 * v : 2 * v + w.shape[1]] += w @ x[b, h, v]
    return y


def slanted(x, alpha):
    return np.where(x > 0, x, alpha * x)


def up(**choices):
    return nnx.ConvTranspose(3, 4, (3, 2), strides=(2, 2), padding="VALID", rngs=nnx.Rngs(0), **choices)


DEPTHWISE, UP, SLOPES = random(2, 3, 3, 2), random(3, 2, 4, 3), random(1, 1, 3)
RARE = {
    "depthwise": (lambda: conv(3, 6, (2, 3), padding="VALID", feature_group_count=3), depthwise, DEPTHWISE),
    "transposed": (lambda: up(use_bias=True), transposed, UP),
    "transposed as the gradient": (lambda: up(transpose_kernel=True), transposed, UP),
    "a slope for each channel": (lambda: nnx.PReLU(jnp.zeros((1, 1, 3))), slanted, SLOPES),
    "a slope for each neuron": (lambda: nnx.PReLU(jnp.zeros((5, 6, 3))), slanted, random(5, 6, 3)),
    "one slope": (nnx.PReLU, slanted, random(1)),
}
TORCH = {"depthwise": DEPTHWISE.reshape(2, 3, 1, 6).transpose(3, 2, 0, 1), "one slope": random(1)}
TORCH |= dict.fromkeys(("transposed", "transposed as the gradient"), UP.transpose(3, 2, 0, 1))
NAMES = {"depthwise": "depthwise_kernel:0", "a slope": "alpha", "one slope": "alpha"}


@pytest.mark.parametrize("chain", [lambda layer: nnx.Sequential(layer), lambda layer: jsnn.Network(Called(layer))])
@pytest.mark.parametrize("kind", RARE)
def test_rarer_layers(kind, chain):
    make, expected, array = RARE[kind]
    x, bias = random(2, 5, 6, 3), random(6 if kind == "depthwise" else 4)
    has_bias = "slope" not in kind
    name = next((leaf for start, leaf in NAMES.items() if kind.startswith(start)), "kernel")
    forms = [(from_keras, {f"layer/{name}": array}, "layer/bias"), (from_keras, {"arr_0": array}, "arr_1")]
    owner = "layers/p_re_lu_1" if "slope" in kind else "layers/conv"  # as in a file of Keras 3
    forms.append((from_keras, {f"{owner}/vars/0": array}, f"{owner}/vars/1"))
    if kind in TORCH:
        forms.append((from_torch, {"0.weight": TORCH[kind]}, "0.bias"))
    for read, arrays, of_bias in forms:
        network = chain(make())
        filled, _ = read(network, arrays | ({of_bias: bias} if has_bias else {}), x.shape[1:])
        y = filled.step(filled.init(x.shape), x)[1] if isinstance(filled, jsnn.Network) else filled(x)
        close(y, expected(x, array) + (bias if has_bias else 0))


class Called(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


def test_networks_that_take_no_weights():
    with pytest.raises(TypeError, match=r"the network is a LSTMCell, which has weights .*: build .*jsnn.Network\(mod"):
        from_torch(nnx.LSTMCell(3, 2, rngs=nnx.Rngs(0)), {}, (3,))
    with pytest.raises(TypeError, match=r"layers\[0\] is a Embed, which has weights but is not one of Linear, Conv"):
        from_torch(jsnn.Sequential(nnx.Embed(3, 2, rngs=nnx.Rngs(0))), {}, (3,))
    late = jsnn.DelayedLinear(3, 3, max_delay=2, rngs=nnx.Rngs(0))
    for network in (late, jsnn.Sequential(late), jsnn.Network(Called(late)), jsnn.Recurrent(jsnn.LIF(0.9), late)):
        with pytest.raises(TypeError, match=r"DelayedLinear, which has weights but is not one of Linear, Conv"):
            from_torch(network, {}, (3,))
    converted = jsnn.convert(nnx.Sequential(linear(3, 2), nnx.relu), jnp.ones((1, 3)))
    with pytest.raises(TypeError, match=r"is a Converted, .* put the weights into the network that it was made of"):
        from_torch(converted, {}, (3,))
    with pytest.raises(WeightsError, match=r"layers\[0\] cannot take an input of shape \(5,\)"):
        from_torch(jsnn.Sequential(linear(3, 2)), {}, (5,))


def test_a_chain_with_modules_of_several_layers():
    """As `jsnn.models.spiking_vgg`, whose convolutions have no bias before their normalisation."""
    network = jsnn.models.spiking_vgg(((2,), (3,)), dense=(), image_shape=(4, 4, 1), outputs=2, rngs=nnx.Rngs(0))
    norm = {"weight": random(2), "bias": random(2), "running_mean": random(2), "running_var": random(2) ** 2}
    last = {"weight": random(3), "bias": random(3), "running_mean": random(3), "running_var": random(3) ** 2}
    arrays = {"features.0.weight": random(2, 1, 3, 3), "features.4.weight": random(3, 2, 3, 3)}
    arrays |= {f"features.1.{name}": value for name, value in norm.items()}
    arrays |= {f"features.5.{name}": value for name, value in last.items()}
    arrays |= {"classifier.0.weight": random(2, 3), "classifier.0.bias": random(2)}
    filled, report = from_torch(network, arrays, (4, 4, 1))
    assert len(report.moves) == len(arrays)
    assert not report.left_out
    np.testing.assert_array_equal(filled.layers[3].conv.kernel[...], arrays["features.4.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(filled.layers[3].norm.mean[...], last["running_mean"])
    with pytest.raises(WeightsError, match=r"in layers\[0\].conv .*: if a normalisation follows, .* its running"):
        from_torch(network, arrays | {"features.0.bias": random(2)}, (4, 4, 1))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["a.pt", "a.pth", "a.npz", "a.pkl"])
def test_a_pickle_that_wants_to_run_code_is_refused(file, tmp_path):
    proof = tmp_path / "proof"
    if file == "a.npz":
        np.savez(tmp_path / file, a=np.array([Evil(proof)], dtype=object))
    else:
        (tmp_path / file).write_bytes(pickle.dumps({"a": Evil(proof)}))
    needs_torch = file in ("a.pt", "a.pth") and find_spec("torch") is None
    with pytest.raises(
        ImportError if needs_torch else WeightsError, match=r"safetensors|Object arrays cannot be loaded"
    ):
        load(tmp_path / file)
    assert not proof.exists()
    np.load(tmp_path / file, allow_pickle=True)["a"]  # the trap does work
    assert proof.exists()


@pytest.mark.skipif(find_spec("torch") is None, reason="reads PyTorch's files")
@pytest.mark.parametrize("file", ["a.pt", "a.PTH", "a.ckpt"])
def test_a_state_dict_inside_a_checkpoint(file, tmp_path):
    import torch

    weights = {"0.weight": torch.ones(2, 3)}
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / file)  # as `named_parameters` gives them
    assert load(tmp_path / file)["a"].tolist() == [1.0, 1.0]
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, tmp_path / file)
    assert load(tmp_path / file, key="state_dict")["0.weight"].tolist() == [[1.0] * 3] * 2
    with pytest.raises(WeightsError, match=r"the keys \['epoch', .*: give one of the keys, key='state_dict'"):
        load(tmp_path / file)
    with pytest.raises(WeightsError, match=r"no state_dict under key='model', there is one under \['state_dict'\]"):
        load(tmp_path / file, key="model")
    torch.save(weights, tmp_path / file)
    assert list(load(tmp_path / file)) == ["0.weight"]


def test_a_key_is_for_files_of_pytorch(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    with pytest.raises(WeightsError, match=r"key='a' is for files of PyTorch, .* got a.npz: leave it out"):
        load(tmp_path / "a.npz", key="a")


@pytest.mark.parametrize("file", ["a.safetensors", "a.npz", "a.h5", "a.keras"])
def test_broken_files(file, tmp_path):
    (tmp_path / file).write_bytes(b"not what it says")
    with pytest.raises(WeightsError, match=f"{file} cannot be read as a"):
        load(tmp_path / file)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / f"no_{file}")


def test_files_without_order_are_sorted(tmp_path):
    arrays = {f"{index}.weight": np.full(2, index) for index in (10, 2, 0)}
    save_file(arrays, tmp_path / "a.safetensors")
    assert list(load(tmp_path / "a.safetensors")) == ["0.weight", "2.weight", "10.weight"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("layers/dense_10/vars/0", "layers/dense_2/vars/0", "layers/dense/vars/0", "optimizer/vars/0"):
            file[name] = np.ones(2)
    assert [name.split("/")[1] for name in load(tmp_path / "a.h5")] == ["dense", "dense_2", "dense_10"]


def block(seed):
    return jsnn.models.spiking_resnet((1,), channels=2, stem="small", outputs=3, rngs=nnx.Rngs(seed))


def test_weights_of_a_network_go_to_a_file_and_back(tmp_path):
    first, second, images = block(0), block(1), jnp.ones((2, 4, 4, 3))
    run = nnx.jit(lambda network: jsnn.unroll(network, images, num_steps=3)[1])
    run(first)  # changes the averages of batch normalisation
    path = tmp_path / "weights.safetensors"
    jsnn.weights.save(path, second)
    jsnn.weights.save(path, first, {"accuracy": "0.5"})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert jsnn.weights.read_metadata(path) == {"accuracy": "0.5"}
    arrays = load(path)
    assert {"readout.kernel", "blocks.0.convs.1.norm.mean"} < set(arrays)
    restored = jsnn.weights.from_jsnn(second, arrays)
    networks = first, restored, second
    for network in networks:
        network.eval()
    outputs = [np.asarray(run(network)) for network in networks]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])  # which has stayed as it was


def test_weights_go_into_the_shapes_of_a_network(tmp_path):
    path = tmp_path / "weights.safetensors"
    network, shapes = block(0), nnx.eval_shape(lambda: block(1))
    jsnn.weights.save(path, network)
    restored = jsnn.weights.from_jsnn(shapes, load(path))
    for given, found in zip(jax.tree.leaves(network), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(given, found)
    half = jsnn.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.eval_shape(lambda: linear(2, 2)))
    for unfinished in (shapes, half):
        with pytest.raises(ValueError, match=r"has no arrays to save: .* is a shape without values"):
            jsnn.weights.save(path, unfinished)
    with pytest.raises(TypeError, match="network has shapes and no weights"):
        from_torch(half, {"0.weight": np.ones((2, 2)), "0.bias": np.ones(2)}, (2,))


@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: jsnn.DelayedLinear(3, 2, max_delay=2, rngs=rngs),
        lambda rngs: jsnn.DelayedConv(1, 2, (2, 2), max_delay=2, rngs=rngs),
        lambda rngs: jsnn.models.CompetitiveLayer(3, 2, rngs=rngs),
    ],
    ids=["DelayedLinear", "DelayedConv", "CompetitiveLayer"],
)
def test_shapes_have_the_arrays_that_are_no_parameters(make, tmp_path):
    network, shapes = make(nnx.Rngs(0)), nnx.eval_shape(lambda: make(nnx.Rngs(1)))
    jsnn.weights.save(tmp_path / "weights.safetensors", network)
    restored = jsnn.weights.from_jsnn(shapes, load(tmp_path / "weights.safetensors"))
    for given, found in zip(jax.tree.leaves(network), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(given, found)


def test_parameters_out_of_their_range_neither_go_to_a_file_nor_come_from_one(tmp_path):
    network = jsnn.Sequential(
        jsnn.LIF(nnx.Param(jnp.full(3, 0.9))), jsnn.DelayedLinear(3, 2, max_delay=2, rngs=nnx.Rngs(0))
    )
    network.layers[0].decay[...], network.layers[1].delay[...] = jnp.array([1.5, -0.5, 0.5]), jnp.full((3, 2), 7.0)
    jsnn.weights.save(tmp_path / "weights.safetensors", network)
    arrays = load(tmp_path / "weights.safetensors")
    assert arrays["layers.0.decay"].tolist() == [1, 0, 0.5]
    assert (arrays["layers.1.delay"] == 2).all()
    assert network.layers[0].decay[...].tolist() == [1.5, -0.5, 0.5]
    outside = {"layers.0.decay": np.full(3, 1.5, np.float32)}
    trained, fixed = (jsnn.Sequential(jsnn.LIF(make(jnp.zeros(3)))) for make in (nnx.Param, jnp.asarray))
    jsnn.weights.from_jsnn(trained, outside)  # which is used within its range
    with pytest.raises(WeightsError, match=r"do not fit layers.0: decay must be in \[0, 1\], got"):
        jsnn.weights.from_jsnn(fixed, outside)


def test_shapes_of_random_keys_are_no_keys(tmp_path):
    def make():
        return jsnn.Sequential(linear(2, 2), nnx.Dropout(0.5, rngs=nnx.Rngs(0)))

    jsnn.weights.save(tmp_path / "weights.safetensors", make())
    with pytest.raises(WeightsError, match=r"rngs.key \(\) is missing, as files .* without nnx.eval_shape"):
        jsnn.weights.from_jsnn(nnx.eval_shape(make), load(tmp_path / "weights.safetensors"))


def test_neurons_and_narrow_weights_are_saved_and_random_keys_are_not(tmp_path):
    network = jsnn.Sequential(
        jsnn.SpikingActivation(v_init=jax.random.key(0)), jsnn.LIF(nnx.Param(jnp.asarray([0.5, 0.25], jnp.bfloat16)))
    )
    jsnn.weights.save(tmp_path / "a.safetensors", network)
    arrays = load(tmp_path / "a.safetensors")
    assert {name: value.tolist() for name, value in arrays.items()} == {"layers.1.decay": [0.5, 0.25]}
    back = jsnn.weights.from_jsnn(network, arrays)
    assert back.layers[1].decay[...].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "dtype",
    [bool, jnp.int4, jnp.int8, jnp.uint32, jnp.float8_e4m3fn, jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64],
)
def test_arrays_of_every_dtype_come_back(dtype, tmp_path):
    network = nnx.Dict(a=nnx.Variable(jnp.ones(2, dtype)))
    jsnn.weights.save(tmp_path / "a.safetensors", network)
    back = jsnn.weights.from_jsnn(nnx.Dict(a=nnx.Variable(jnp.zeros(2, dtype))), load(tmp_path / "a.safetensors"))
    assert back.a[...].dtype == dtype
    assert (back.a[...] == 1).all()


class Tied(nnx.Module):
    """A layer that stands in two places, and one of its own."""

    def __init__(self, rngs):
        self.a = self.b = nnx.Linear(2, 2, rngs=rngs)
        self.c = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        return self.c(self.b(jsnn.LIF(0.9)(self.a(x))))


@pytest.mark.filterwarnings("ignore:weights are taken in the order")
def test_a_layer_in_two_places_takes_what_pytorch_has_under_two_names():
    layers = {"a": 1.0, "b": 1.0, "c": 2.0}
    arrays = {f"{name}.weight": np.full((2, 2), value) for name, value in layers.items()}
    arrays |= {f"{name}.bias": np.zeros(2) for name in layers}
    network, report = from_torch(jsnn.Network(Tied(nnx.Rngs(0))), arrays, (2,))
    assert network.function.a is network.function.b
    assert [float(layer.kernel[...].mean()) for layer in (network.function.b, network.function.c)] == [1.0, 2.0]
    assert report.left_out == ("b.weight", "b.bias")
    with pytest.raises(WeightsError, match=r"c.weight \(2, 2\) has no layer left to go to"):
        from_torch(jsnn.Network(Tied(nnx.Rngs(0))), arrays | {"b.weight": np.zeros((2, 2))}, (2,))


def test_no_array_is_cut_off_or_lost():
    counts, halves = nnx.Variable(jnp.arange(2)), nnx.Variable(jnp.zeros(2))
    with pytest.raises(WeightsError, match="  a is float64, the network's int32: a part of it would be cut off"):
        jsnn.weights.from_jsnn(nnx.Dict(a=counts, b=halves), {"a": np.array([0.5, 1]), "b": np.ones(2, int)})
    for dtype, value in (
        (jnp.int8, 300),
        (jnp.uint8, -1),
        (jnp.float16, 1e5),
        (jnp.float32, 1e300),
        (jnp.bfloat16, 1e39),
    ):
        network = nnx.Dict(a=nnx.Variable(jnp.zeros(2, dtype)))
        with pytest.raises(WeightsError, match=f"  a has values that are too large for {jnp.dtype(dtype).name}"):
            jsnn.weights.from_jsnn(network, {"a": np.array([1, value])})
    infinite = jsnn.weights.from_jsnn(nnx.Dict(a=halves), {"a": np.array([np.inf, np.nan])})
    np.testing.assert_array_equal(infinite.a[...], [np.inf, np.nan])
    with pytest.raises(WeightsError, match=r"weight .* has values that are too large for float32, the dtype of"):
        from_torch(linear(3, 2), {"weight": np.full((2, 3), 1e300), "bias": np.ones(2)}, (3,))
    with pytest.raises(TypeError, match="'a' must be an array of real numbers, got complex128"):
        from_torch(linear(3, 3), {"a": np.ones(3, complex)}, (3,))
    with pytest.raises(ValueError, match=r"two arrays of the network are named 'a\.b'"):
        jsnn.weights.from_jsnn(nnx.Dict({"a.b": counts, "a": nnx.Dict(b=halves)}), {})


def test_weights_of_another_network_are_refused(tmp_path):
    network = jsnn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jsnn.LIF())
    arrays = {"layers.0.kernel": np.ones((3, 2)), "a": np.ones(1)}
    with pytest.raises(WeightsError) as error:
        jsnn.weights.from_jsnn(network, arrays)
    assert str(error.value).splitlines()[1:] == [
        "  layers.0.bias (3,) is missing",
        "  layers.0.kernel has shape (3, 2), the network's has (2, 3)",
        "  a (1,) belongs nowhere",
    ]
    with pytest.raises(TypeError, match=r"arrays must be a dictionary, got int: read a file with jsnn.weights.load"):
        jsnn.weights.from_jsnn(network, 3)
    with pytest.raises(TypeError, match="network must be a network or a module of Flax, got int"):
        jsnn.weights.from_jsnn(3, arrays)
    with pytest.raises(ValueError, match=r"path must end in .safetensors, got a.npz"):
        jsnn.weights.save(tmp_path / "a.npz", network)
    with pytest.raises(ValueError, match="LIF has no arrays to save"):
        jsnn.weights.save(tmp_path / "a.safetensors", jsnn.LIF())
    with pytest.raises(TypeError, match=r"metadata must map texts to texts, got 'accuracy': 0.5"):
        jsnn.weights.save(tmp_path / "a.safetensors", network, {"accuracy": 0.5})
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none: make it first"):
        jsnn.weights.save(tmp_path / "none" / "a.safetensors", network)
    with pytest.raises(TypeError, match="must have values, got traced ones: call save outside"):
        jax.eval_shape(lambda network: jsnn.weights.save(tmp_path / "a.safetensors", network), network)
    (tmp_path / "b.safetensors").write_bytes(b"no such file")
    with pytest.raises(WeightsError, match=r"b.safetensors cannot be read as a .safetensors file"):
        jsnn.weights.read_metadata(tmp_path / "b.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        jsnn.weights.read_metadata(tmp_path / "c.safetensors")
