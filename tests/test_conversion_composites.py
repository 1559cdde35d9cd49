"""What the report calls that which is kept, and the warning where it sees spikes."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jsnn

X = jnp.ones((2, 4, 4, 8))
RNGS = nnx.Rngs(0)
KEPT = {
    "max_pool": jsnn.max_pool,
    "max_pool (flax)": lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
    "max_pool (window 3)": lambda x: nnx.max_pool(x, (3, 3), (1, 1)),
    "layer norm": nnx.LayerNorm(8, rngs=RNGS),
    "layer norm (slow variance)": nnx.LayerNorm(8, use_fast_variance=False, rngs=RNGS),
    "layer norm (by hand)": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "layer norm (groups)": nnx.GroupNorm(8, num_groups=2, rngs=RNGS),
    "rms norm": nnx.RMSNorm(8, rngs=RNGS),
    "norm": lambda x: jnp.linalg.norm(x, axis=-1),
    "softmax": jax.nn.softmax,
    "leaky_relu": jax.nn.leaky_relu,
    "leaky_relu with a slope of 0.3": lambda x: jax.nn.leaky_relu(x, 0.3),
    "leaky_relu with a slope of 0.25": lambda x: jnp.where(x > 0, x, 0.25 * x),
    "clip": lambda x: jnp.clip(x, 0.5, 1),
    "gelu": jax.nn.gelu,
}


@pytest.mark.rows(3)
@pytest.mark.parametrize(("name", "function"), KEPT.items(), ids=KEPT)
def test_names_and_warnings(name, function):
    name = name.partition(" (")[0]

    def model(x):
        x = jax.nn.relu(x)
        return function(x) + function(2 * x)

    with pytest.warns(UserWarning, match=f"^{name} is kept and sees the spikes of single .*synapse=5e-3") as caught:
        network = jsnn.convert(model, X, kept="as is")
    assert len(caught) == 1
    assert network.report.kept == (name, name)


def test_no_warning_where_nothing_spikes_or_all_is_smooth():
    softmax = jax.nn.softmax
    jsnn.convert(lambda x: softmax(jax.nn.relu(x)), X, synapse=5e-3)
    jsnn.convert(lambda x: softmax(jax.nn.relu(x)), X, swap={jax.nn.relu: jax.nn.relu})
    jsnn.convert(lambda x: jax.nn.relu(softmax(x)), X)


def test_a_leaky_relu_with_another_slope_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"no leaky_relu .*found: leaky_relu with a slope of 0.3.*functools.part"):
        jsnn.convert(lambda x: jax.nn.leaky_relu(x, 0.3), X, swap={jax.nn.leaky_relu: jsnn.IF()})


@pytest.mark.parametrize(
    ("function", "named"),
    [(jnp.tanh, "jax.nn.tanh: jsnn.SpikingActivation(jax.nn.tanh)"), (jnp.abs, "own: jsnn.SpikingActivation(own)")],
)
def test_the_cure_names_what_is_there(function, named):
    with pytest.raises(ValueError, match=f"there is no relu to swap.*{re.escape(named)}"):
        jsnn.convert(function, X)


def test_a_trained_slope():
    model = nnx.Sequential(nnx.relu, nnx.PReLU())
    assert jsnn.convert(model, X, synapse=5e-3).report.kept == ("PReLU",)
