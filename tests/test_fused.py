"""The fused kernels against a scan of `step`, in Pallas' interpreter; and that a GPU's compiler takes them."""

import dataclasses
import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec
from test_neurons import NEURONS
from test_surrogate import FORMULAS

import jsnn
from jsnn import fused
from jsnn.fused import operations

T, B, N = 6, 2, 4
DO_NOT_FIT = {  # products with weights, and states of another shape
    *("Recurrent", "Recurrent_ALIF", "Recurrent_DelayedLinear", "Recurrent_late", "Sequential", "Sequential_nested"),
    *("Delay", "Delay_arrays", "Delay_trained", "DelayedLinear", "DelayedLinear_triangle"),
    *("SlidingPSN", "SlidingPSN_one"),
}
COMPILE_FAST = {"xla_backend_optimization_level": 0}
RNG = np.random.default_rng(0)
CURRENTS = jnp.asarray(RNG.uniform(-0.2, 1.5, (T, B, N)), jnp.float32)


class MixedState(NamedTuple):
    v: jax.Array
    slow: jax.Array  # bfloat16
    steps: jax.Array  # int32
    spiked: jax.Array  # bool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixed:
    """A user's neuron: states of four dtypes, a weakly typed leaf, a leaf of integers, one that `step` never uses."""

    rate: float | jax.Array
    period: jax.Array
    unused: jax.Array

    def init(self, shape, dtype=jnp.float32):
        zeros = jnp.zeros(shape, dtype)
        return MixedState(zeros, zeros.astype(jnp.bfloat16), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))

    def step(self, state, current):
        v = jnp.where(state.spiked, 0.0, state.v) + jax.nn.softplus(current.astype(state.v.dtype))
        steps = (state.steps + 1) % self.period
        spikes = jsnn.surrogate.arctan()(v - 1) * (steps > 0)
        slow = self.rate * state.slow + spikes.astype(jnp.bfloat16)  # bfloat16, as the rate is weakly typed
        return MixedState(v, slow, steps, spikes > 0), (spikes + jnp.tanh(slow) / 3).astype(current.dtype)


MIXED = Mixed(0.25, jnp.array([2, 3, 4, 5]), jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class Applied:
    """A neuron whose step applies a function to its state and its current."""

    function: object

    def init(self, shape, dtype=jnp.float32):
        return (jnp.zeros(shape, dtype),)

    def step(self, state, current):
        return (state[0] + self.function(current),), self.function(state[0]) * 1.0


def by_scan(neuron, state, inputs, num_steps):
    if num_steps is not None:
        inputs = jnp.broadcast_to(inputs, (num_steps, *inputs.shape))
    return jax.lax.scan(neuron.step, state, inputs)


def is_smooth(x):
    return jnp.issubdtype(x.dtype, jnp.inexact)


def with_gradients(run, num_steps=None):
    """`(neuron, state, inputs) -> (outputs and last state, their gradients)`."""

    def loss(*arguments):
        results = run(*arguments, num_steps)
        smooth = [y.astype(jnp.float32) for y in jax.tree.leaves(results) if is_smooth(y)]
        return sum(jnp.sum(jnp.sin(1.3 * y)) for y in smooth), results

    return jax.grad(loss, (0, 1, 2), has_aux=True, allow_int=True)


def initial(neuron, shape=(B, N), dtype=jnp.float32):
    """A state that is not zero, to tell neurons and fields apart."""

    def moved(x):
        return x + jnp.asarray(RNG.uniform(0, 0.5, x.shape), x.dtype) if is_smooth(x) else x

    return jax.tree.map(moved, neuron.init(shape, dtype))


def assert_same(actual, expected, tolerance=2e-6):
    def check(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if a.dtype != jax.dtypes.float0 and not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = (np.asarray(x, np.float64) for x in (a, b))
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, np.max(np.abs(b), initial=0)))

    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(check, actual, expected)


def compare(neuron, state, inputs, num_steps=None, tolerance=2e-6):
    runs = [with_gradients(run, num_steps) for run in (fused.unroll, by_scan)]
    both = jax.jit(lambda *x: [run(*x) for run in runs], compiler_options=COMPILE_FAST)
    actual, expected = both(neuron, state, inputs)
    assert np.any(expected[1][1])
    assert_same(actual, expected, tolerance)


def lower_for_cuda(neuron, state, inputs, run=fused.unroll):
    """The program of outputs and gradients, as a GPU's compiler is given it; a machine without a GPU can write it."""
    traced = jax.jit(with_gradients(run)).trace(neuron, state, inputs)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.slow
def test_what_fits():
    current = jax.ShapeDtypeStruct((B, N), jnp.float32)
    for name, neuron in NEURONS.items():
        state = jax.eval_shape(lambda neuron=neuron: neuron.init((B, N)))
        assert fused.fits(neuron, state, current) == (name not in DO_NOT_FIT), name


FIRST = {"ALIF", "LIF_trained", "RefractoryLIF", "SigmaDelta_tanh"}  # the others take a minute or two


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FIRST else pytest.mark.slow)
        for name in sorted(NEURONS.keys() - DO_NOT_FIT)
    ],
)
def test_kernels_are_the_scan_and_lower_for_cuda(name):
    neuron = NEURONS[name]
    compare(neuron, initial(neuron), CURRENTS)
    assert lower_for_cuda(neuron, initial(neuron), CURRENTS).count("@mosaic_gpu") == 2


NAMES = [
    *("abs", "ceil", "cos", "cosh", "exp", "exp2", "expm1", "floor", "isfinite", "log", "log1p", "log2"),
    *("negative", "reciprocal", "rint", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
    *("celu", "elu", "gelu", "hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu"),
    *("sigmoid", "silu", "soft_sign", "softplus", "squareplus"),
]


def function(name):
    return getattr(jnp, name, None) or getattr(jax.nn, name)


APPLIED = {name: Applied(function(name)) for name in NAMES}
APPLIED |= {f"surrogate {index}": Applied(spike) for index, (spike, _) in enumerate(FORMULAS)}


@pytest.mark.slow
def test_common_functions_fit():
    """On every JAX, and so do their gradients: a newer JAX may write them with operations of another name."""
    current = jax.ShapeDtypeStruct((B, N), jnp.float32)
    assert [name for name, neuron in APPLIED.items() if not fused.fits(neuron, (current,), current)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLIED)
def test_common_functions_lower_for_cuda(name):
    def total(state, inputs):
        return fused.unroll(APPLIED[name], state, inputs, None)[1].sum()

    traced = jax.jit(jax.grad(total, (0, 1))).trace((CURRENTS[0],), CURRENTS)
    assert "@mosaic_gpu" in traced.lower(lowering_platforms=("cuda",)).as_text()


POINTS = np.array([-80, -3, -1, -0.5, -1e-3, -1e-8, 0, 1e-30, 1e-8, 1e-3, 0.5, 1, 2.5, 3, 80, np.inf], np.float32)


EXACT = {
    **{name: getattr(np, name) for name in ("ceil", "cosh", "expm1", "floor", "log1p", "log2", "sinh", "sqrt", "tan")},
    "is_finite": np.isfinite,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "one_minus_square": lambda x: 1 - x**2,
}


@pytest.mark.rows(8)
@pytest.mark.parametrize("name", EXACT)
def test_rewritten_operations_are_exact_to_a_few_units_in_the_last_place(name):
    with np.errstate(all="ignore"):
        expected = EXACT[name](POINTS.astype(np.float64)).astype(np.float32)
    actual = jax.jit(operations.REWRITTEN[name])(POINTS).astype(jnp.float32)
    np.testing.assert_array_max_ulp(*map(finite, (actual, expected)), maxulp=8)


def test_powers():
    x, y = np.meshgrid(np.array([-2.5, -1, 0, 1e-3, 0.7, 1, 3], np.float32), np.array([-2, -1.5, 0, 1, 1.5, 3]))
    with np.errstate(all="ignore"):
        expected = x.astype(np.float64) ** y
    actual = jax.jit(operations.REWRITTEN["pow"])(x, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(finite(actual), finite(expected), rtol=2e-6)  # 16 units in the last place


def finite(x):
    return np.nan_to_num(np.asarray(x, np.float32), nan=-7, posinf=1e30, neginf=-1e30)


def test_without_a_compiler_unroll_scans(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas", None)
    assert not fused.is_available()
    run = functools.partial(jsnn.unroll, jsnn.LIF(), method="fused")
    assert "pallas" not in str(jax.make_jaxpr(run)(CURRENTS))


@pytest.mark.rows(1)
@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.hessian])
def test_other_derivatives_name_the_cure(derivative):
    def total(inputs):
        return jsnn.unroll(jsnn.LIF(), inputs, method="fused")[1].sum()

    with pytest.raises(TypeError, match=r'method="fused" has first derivatives alone.*use method="scan"'):
        derivative(total)(CURRENTS)


def test_unroll_runs_the_kernels_of_the_platform_that_it_is_lowered_for():
    def unroll(neuron, state, inputs, num_steps):
        return jsnn.unroll(neuron, inputs, state, num_steps=num_steps, method="fused")

    arguments = NEURONS["LIF"], initial(NEURONS["LIF"]), CURRENTS
    assert lower_for_cuda(*arguments, unroll).count("@mosaic_gpu") == 2
    with jax.default_device(jax.devices("cpu")[0]):
        assert "mosaic" not in jax.jit(with_gradients(unroll)).lower(*arguments).as_text()


@pytest.mark.slow
def test_a_user_s_neuron_of_several_dtypes():
    state = initial(MIXED)
    compare(MIXED, state, CURRENTS, tolerance=1e-2)  # bfloat16 has 8 bits
    lower_for_cuda(MIXED, state, CURRENTS)


@pytest.mark.slow
def test_bfloat16():
    neuron = jsnn.RefractoryLIF(0.25, tau_mem=nnx.Param(jnp.full(N, 0.3)), tau_ref=0.125)
    currents = CURRENTS.astype(jnp.bfloat16)
    compare(neuron, initial(neuron), currents, tolerance=1e-2)
    for dtype in (jnp.float32, jnp.bfloat16):
        lower_for_cuda(neuron, initial(neuron, dtype=dtype), currents)


@pytest.mark.rows(1)
@pytest.mark.parametrize("length", [1, T])
def test_static_input_is_read_once(length):
    neuron = NEURONS["CuBaLIF"]
    compare(neuron, initial(neuron), CURRENTS[0] + 0.6, length)
    traced = jax.make_jaxpr(lambda *x: fused.unroll(*x, length))(neuron, neuron.init((B, N)), CURRENTS[0])
    assert f"f32[{length},{B},{N}]" not in str(traced).split("pallas_call")[0]


@pytest.mark.slow
def test_neurons_that_fill_no_block():
    neuron, shape = NEURONS["LIF_trained"], (3, 17, N)
    assert fused.BLOCK < 3 * 17 * N < 2 * fused.BLOCK
    compare(neuron, initial(neuron, shape), jnp.asarray(RNG.uniform(-0.2, 1.5, (3, *shape)), jnp.float32))


def test_no_steps_and_no_neurons():
    neuron = NEURONS["ALIF"]
    state = initial(neuron)
    last, outputs = fused.unroll(neuron, state, CURRENTS[:0], None)
    assert_same(last, state)
    assert outputs.shape == (0, B, N)
    assert fused.unroll(neuron, neuron.init((0, N)), CURRENTS[:, :0], None)[1].shape == (T, 0, N)


def test_vmap_and_scan():
    neuron, currents = NEURONS["LIF_trained"], jnp.stack([CURRENTS, CURRENTS[::-1], CURRENTS**2])
    state = initial(neuron)

    def over_batches(run):
        return jax.vmap(with_gradients(run), in_axes=(None, None, 0))(neuron, state, currents)

    def over_chunks(run):
        return jax.lax.scan(lambda state, x: run(neuron, state, x, None), state, currents)

    for use in (over_batches, over_chunks):
        both = jax.jit(lambda use=use: (use(fused.unroll), use(by_scan)), compiler_options=COMPILE_FAST)
        assert_same(*both())
    for use in (over_batches, over_chunks):
        jax.jit(lambda use=use: use(fused.unroll)).trace().lower(lowering_platforms=("cuda",))


@pytest.mark.slow
def test_on_each_device_of_a_mesh():
    """As `Layout.record` and `--seeds` run a network; there a gradient says on which devices it lies."""
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))
    arguments = NEURONS["LIF_trained"], initial(NEURONS["LIF_trained"]), CURRENTS

    def over_devices(run):
        part = jax.shard_map(
            with_gradients(run), mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False
        )
        return part(*arguments)

    both = jax.jit(lambda: (over_devices(fused.unroll), over_devices(by_scan)), compiler_options=COMPILE_FAST)
    assert_same(*both())


@dataclasses.dataclass(frozen=True)
class Other:
    """A neuron with a step of one's choice."""

    function: object

    def init(self, shape, dtype=jnp.float32):
        return (jnp.zeros(shape, dtype),)

    def step(self, state, current):
        return self.function(state[0], current)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda v, x: ((v + jnp.sum(x),), v), id="a sum over neurons"),
        pytest.param(lambda v, x: ((v + x[::-1],), v), id="neurons in another order"),
        pytest.param(lambda v, x: ((v + jnp.arange(N),), v), id="a neuron that knows its place"),
        pytest.param(lambda v, x: ((v + x @ jnp.eye(N),), v), id="a product"),
        pytest.param(lambda v, x: ((v + x,), (v, x)), id="two outputs"),
        pytest.param(lambda v, x: ((v + x,), v[0]), id="an output of another shape"),
        pytest.param(lambda v, x: ((v.astype(jnp.bfloat16),), v), id="a state that changes its dtype"),
        pytest.param(lambda v, x: ((v, x), v), id="a state that grows"),
    ],
)
def test_what_does_not_fit(step):
    neuron = Other(step)
    assert not fused.fits(neuron, neuron.init((B, N)), CURRENTS[0])
    with pytest.raises(ValueError, match="the step of Other is not elementwise in neurons of shape"):
        fused.unroll(neuron, neuron.init((B, N)), CURRENTS, None)


def test_a_batch_of_any_size_is_scanned():
    """In an export; the kernels are for one number of neurons."""
    run = jax.jit(functools.partial(jsnn.unroll, jsnn.LIF(), method="fused"))
    batch = jax.export.symbolic_shape("b")
    exported = jax.export.export(run)(jax.ShapeDtypeStruct((T, *batch, N), jnp.float32))
    assert_same(exported.call(CURRENTS)[1], jsnn.unroll(jsnn.LIF(), CURRENTS)[1])


@pytest.mark.parametrize("change", [lambda p: p.reshape(-1), lambda p: p.T], ids=["flattens", "transposes"])
@pytest.mark.parametrize("batch", [B, N])
def test_a_step_that_changes_the_shape_of_its_parameters_does_not_fit(change, batch):
    @nnx.dataclass
    class Changing(nnx.Pytree):
        decay: jax.Array

        def init(self, shape, dtype=jnp.float32):
            return jnp.zeros(shape, dtype)

        def step(self, v, current):
            return (v := change(self.decay) * v + current), v

    neuron, current = Changing(jnp.full(N, 0.5)), jnp.ones((batch, N))
    assert not fused.fits(neuron, neuron.init(current.shape), current)


def test_random_and_scalar_and_thin_networks_do_not_fit():
    for neuron in (
        jsnn.StochasticSpiking(jax.random.key(0)),
        jsnn.Recurrent(jsnn.LIF(), nnx.Linear(1, 1, rngs=nnx.Rngs(0))),
    ):
        assert not fused.fits(neuron, neuron.init((B, 1)), CURRENTS[0, :, :1])
    assert not fused.fits(jsnn.LIF(), jsnn.LIF().init(()), CURRENTS[0, 0, 0])


def test_a_neuron_that_refuses_to_be_differentiated_runs():
    neuron = jsnn.SpikingActivation(dt=0.5, spiking_aware=False)
    arguments = neuron, initial(neuron), CURRENTS, None
    assert_same(fused.unroll(*arguments), by_scan(*arguments))
    with pytest.raises(TypeError, match="spiking_aware=False cannot be differentiated"):
        jax.eval_shape(with_gradients(fused.unroll), *arguments[:-1])
