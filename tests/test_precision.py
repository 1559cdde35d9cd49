"""What is bfloat16 in a training step of reduced precision, what is not, and that it learns as well."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from rich.console import Console

import jsnn
from configs import digits
from experiments import build, seeds
from experiments.config import Experiment, Feedforward, NorseRecurrent, RateConv, Train
from jsnn import models, train
from jsnn.data import Dataset
from jsnn.layers import RecurrentState
from jsnn.precision import initial_state, reduce_precision


def recurrent():
    return jsnn.Sequential(
        nnx.Linear(6, 5, rngs=nnx.Rngs(0)),
        jsnn.Recurrent(jsnn.CuBaLIF(0.9, 0.8), nnx.Linear(5, 5, use_bias=False, rngs=nnx.Rngs(1))),
        nnx.Linear(5, 3, rngs=nnx.Rngs(2)),
        jsnn.LI(0.9),
    )


NETWORKS = {
    "feedforward": (lambda: models.feedforward([6, 5, 3], rngs=nnx.Rngs(0)), (2, 6)),
    "recurrent": (recurrent, (2, 6)),
    "norse_recurrent": (lambda: models.norse_recurrent(6, 5, 3, rngs=nnx.Rngs(0)), (2, 6)),
    "norse_conv": (lambda: models.norse_conv(image_size=16, rngs=nnx.Rngs(0)), (2, 16, 16, 1)),
    "spiking_dense": (lambda: models.spiking_dense([6, 5, 3], tau=0.1, rngs=nnx.Rngs(0)), (2, 6)),
}


def floats(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def equations(jaxpr):
    """All equations of a program, those of the programs in it among them."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_currents_and_spikes_are_bfloat16_membranes_and_readout_float32(name):
    make, shape = NETWORKS[name]
    network = make()
    inputs = jax.ShapeDtypeStruct((4, *shape), jnp.float32)

    def look(inputs):
        return jsnn.record(reduce_precision(network), inputs, initial_state(network, shape))

    layers = sorted(jax.eval_shape(look, inputs).items(), key=lambda item: int(item[0].split("_")[0]))
    dtypes = [str(layer.outputs.dtype) for _, layer in layers]
    products = [index for index, (layer_name, _) in enumerate(layers) if layer_name.endswith(("Linear", "Conv"))]
    assert set(dtypes[products[0] : products[-1]]) == {"bfloat16"}
    assert set(dtypes[products[-1] :]) == {"float32"}
    states = [layer.states for _, layer in layers]
    assert floats([s.neuron if isinstance(s, RecurrentState) else s for s in states]) == {"float32"}


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    "readout",
    [
        lambda: jsnn.DelayedLinear(4, 3, max_delay=2, rngs=nnx.Rngs(0)),
        lambda: jsnn.Sparse.random(4, 3, fan_in=2, rngs=nnx.Rngs(0)),
        lambda: jsnn.quant.aware(jsnn.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))).layers[0],
    ],
    ids=["delayed", "sparse", "quantised"],
)
def test_a_readout_of_another_kind_leaves_the_layers_before_it_reduced(readout):
    dense = [nnx.Linear(6, 5, rngs=nnx.Rngs(0)), jsnn.LIF(0.9), nnx.Linear(5, 4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9)]
    network = reduce_precision(jsnn.Sequential(*dense, readout()))
    layers = jax.eval_shape(lambda x: jsnn.record(network, x, keep=["outputs"]), jnp.ones((4, 2, 6)))
    assert [str(layers[name].outputs.dtype) for name in network.names[:4]] == ["bfloat16"] * 4


def test_outputs_that_recurrences_within_recurrences_feed_back_are_reduced():
    inner = jsnn.Recurrent(jsnn.LIF(0.9), nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    network = jsnn.Recurrent(jsnn.Sequential(inner, jsnn.LIF(0.9)), nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    state = initial_state(network, (2, 3))
    assert state.outputs.dtype == state.neuron[0].outputs.dtype == jnp.bfloat16
    assert state.neuron[1].v.dtype == jnp.float32


LIF = jsnn.LIF(0.9)
WRONG = {
    "no network": (lambda: reduce_precision(3), "reduce_precision takes a Neuron, .* got int"),
    "a class": (lambda: reduce_precision(jsnn.LIF), "got the class LIF: make one"),
    "integers": (lambda: reduce_precision(LIF, jnp.int8), "dtype must be a floating-point dtype, .* got .*int8"),
    "no dtype": (lambda: reduce_precision(LIF, None), "dtype must be a floating-point dtype, .* got None"),
    "a name": (lambda: reduce_precision(LIF, "float17"), "dtype must be a dtype such as jnp.float32, got 'float17'"),
    "converted": (
        lambda: reduce_precision(jsnn.Sequential(jsnn.convert(jax.nn.relu, jnp.ones((1, 2))))),
        r"traced by jsnn.convert: reduce its model, convert\(reduce_precision\(model\)",
    ),
    "a layer": (lambda: initial_state(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), (2, 3)), "takes a Neuron, .* got Linear"),
    "state of integers": (lambda: initial_state(LIF, (2, 3), jnp.int8), "a floating-point dtype, .* got .*int8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_reduced_is_refused(name):
    call, message = WRONG[name]
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.rows(1)
@pytest.mark.parametrize("part", [Feedforward(hidden=(5,)), NorseRecurrent(hidden=5)], ids=lambda part: part.kind)
def test_a_training_step_multiplies_in_bfloat16_and_adds_up_in_float32(part):
    experiment = Experiment(num_steps=4, network=part, train=Train(precision="bfloat16"))
    network = build.make_network(experiment, Dataset(np.zeros((10, 8, 8), np.uint8), np.arange(10)))
    graph, state = train.create(network, optax.adam(1e-3))
    step = train.make_step(graph, build.make_loss(experiment, training=True), optax.adam(1e-3))
    batch = (jax.ShapeDtypeStruct((3, 8, 8, 1), jnp.uint8), jax.ShapeDtypeStruct((3,), jnp.int32))
    jaxpr, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(state, batch, jax.random.key(0))
    assert floats((after.params, after.rest, after.optimizer, metrics)) == {"float32"}
    assert after.params == jax.eval_shape(lambda: state).params
    products = [equation for equation in equations(jaxpr.jaxpr) if equation.primitive.name == "dot_general"]
    of_readout = [e for e in products if any(10 in v.aval.shape for v in (*e.invars, *e.outvars))]
    for equation in products:
        expected = "float32" if equation in of_readout else "bfloat16"
        assert floats([variable.aval for variable in equation.invars]) == {expected}, equation
    assert len(products) > len(of_readout) == 3  # forward, and the gradients of spikes and weights


@pytest.mark.slow
def test_weights_and_running_averages_are_those_of_the_network():
    network = RateConv(blocks=((4,),), dense=(5,), batch_norm=True).make((8, 8, 1), 3, nnx.Rngs(0))
    network.train()
    reduced = reduce_precision(network)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    reduced_logits = reduced(images)
    assert reduced_logits.dtype == jnp.float32
    assert float(jnp.abs(network.layers[1].mean[...]).max()) > 0  # nnx.BatchNorm has seen the batch
    logits = network(images)
    np.testing.assert_allclose(reduced_logits, logits, atol=0.03 * float(jnp.abs(logits).max()))
    assert not np.array_equal(reduced_logits, logits)
    assert network.layers[0].dtype is None  # the network itself stays as precise as it was


def test_evaluations_are_float32():
    experiment = Experiment(num_steps=4, network=Feedforward(hidden=(5,)), train=Train(precision="bfloat16"))
    network = build.make_network(experiment, Dataset(np.zeros((10, 8, 8), np.uint8), np.arange(10)))
    arguments = (network, jnp.zeros((3, 8, 8, 1), jnp.uint8), jnp.zeros(3, jnp.int32), jax.random.key(0))
    in_training, in_evaluation = [
        str(jax.make_jaxpr(build.make_loss(experiment, training=training))(*arguments)) for training in (True, False)
    ]
    assert "bf16" in in_training
    assert "bf16" not in in_evaluation


@pytest.mark.slow
def test_digits_are_learnt_as_well(tmp_path):
    accuracies = []
    for precision in ("float32", "bfloat16"):
        settings = dataclasses.replace(digits.get_config(), seeds=2, train=Train(10, 64, precision=precision))
        rows, _ = seeds.open_run(settings, tmp_path / precision, Console(quiet=True)).fit()
        accuracies.append(np.mean([row["test_accuracy"] for row in rows]))
    assert accuracies[0] > 0.95
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.01)
