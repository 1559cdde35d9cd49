"""The table that says what a conversion did."""

import jax
import jax.numpy as jnp
from flax import nnx

import jsnn


def test_report():
    kernel, weights = jnp.ones((3, 3, 2, 3)), jnp.ones((48, 5))

    def model(x):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x * 2 + 1).reshape(2, -1)
        x = jnp.maximum(jax.jit(lambda x: x @ weights)(x) - jnp.ones(5), 0)
        return jax.nn.softmax(jnp.sin(jax.nn.softmax(x)))

    scales = [jnp.array([1.0, 2.0, 4.0]), 20.0]
    network = jsnn.convert(model, jnp.ones((2, 4, 4, 2)), synapse=5e-3, scale_firing_rates=scales)
    assert str(network.report).splitlines() == [
        "name    after                     shape         replaced by        scale   synapse",
        "0_relu  convolution [3, 3, 2, 3]  [2, 4, 4, 3]  SpikingActivation  1 to 4  Lowpass(0.005 s)",
        "1_relu  dense [48, 5]             [2, 5]        SpikingActivation  20      Lowpass(0.005 s)",
        "kept, exact in the mean over time: softmax, sin",
        "kept as they are: softmax",
        "dt: 0.001 s",
    ]
    assert network.report.kept == ("softmax", "sin", "softmax")
    row = network.report.rows[0]
    assert (row.name, row.kind, row.shape, row.where) == ("0_relu", "relu", (2, 4, 4, 3), "convolution [3, 3, 2, 3]")
    assert row.neuron == jsnn.SpikingActivation()
    assert row.scale is scales[0]
    assert row.synapse == jsnn.filters.Lowpass(5e-3, delay=True)


def test_other_neurons_and_filters():
    x = jnp.ones((2, 4))
    alpha = jsnn.filters.Alpha(jnp.full(4, 0.1))
    network = jsnn.convert(jax.nn.gelu, x, swap={jax.nn.gelu: jsnn.LIF()}, synapse=alpha)
    assert str(network.report).splitlines()[1:] == [
        "0_gelu  the input  [2, 4]  LIF          1      Alpha",
        "kept as they are: nothing",
        "dt: 0.001 s",
    ]
    network = jsnn.convert(jax.nn.gelu, x, swap={jax.nn.gelu: jax.nn.relu})
    assert str(network.report).splitlines()[1] == "0_gelu  the input  [2, 4]  Rate         1      none"


def test_a_convolution_that_chooses_its_program_by_the_platform_is_named_and_linear():
    model = nnx.Sequential(jsnn.Conv(8, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    network = jsnn.convert(model, jnp.ones((1, 4, 4, 8)))
    assert network.report.rows[0].where == "convolution [3, 3, 8, 4]"
    assert network.report.kept == ()
