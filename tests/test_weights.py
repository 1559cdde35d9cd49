"""Weights of other libraries: the same outputs as theirs, a report of what went where, and nothing done by halves."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import h5py
import jax
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
    close(filled(expected["inputs"]), expected["outputs"])
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
    for order, expected in (((), 2.0), (("a",), 1.0)):
        filled, _ = from_torch(network, arrays, (3,), order=order)
        assert filled.layers[0].kernel[0, 0] == expected
    with pytest.raises(WeightsError, match=r"order names \['c'\]"):
        from_torch(network, arrays, (3,), order=("c",))


def test_arrays_are_a_dictionary_and_a_shape_is_a_tuple():
    network = jsnn.Sequential(linear(3, 3))
    with pytest.raises(TypeError, match=r"arrays must be a dictionary, got str: read a file with jsnn.weights.load"):
        from_torch(network, "weights.pt", (3,))
    with pytest.raises(TypeError, match=r"arrays must be a dictionary, got list"):
        from_keras(network, [np.ones((3, 3)), np.ones(3)], (3,))
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


def test_one_to_one_recurrence_behind_a_convolution():
    network = jsnn.Sequential(snntorch.rleaky(beta=0.5, V=np.zeros((2, 4, 3)), all_to_all=False))
    v = np.arange(24.0).reshape(3, 2, 4)
    filled, report = from_torch(network, {"0.recurrent.V": v}, (2, 4, 3))
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
        ({"0.bias": np.array(["a", "b", "c"])}, ["layers[0] does not take its weights"]),
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


def test_networks_that_take_no_weights():
    with pytest.raises(TypeError, match=r"layers\[0\] is a Embed, which has weights but is none of Linear, Conv"):
        from_torch(jsnn.Sequential(nnx.Embed(3, 2, rngs=nnx.Rngs(0))), {}, (3,))
    with pytest.raises(WeightsError, match=r"layers\[0\] cannot take an input of shape \(5,\)"):
        from_torch(jsnn.Sequential(linear(3, 2)), {}, (5,))


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
