"""`method="auto"` and the fused kernels: only after a test on the very GPU; whatever goes wrong there is one warning.

No GPU is needed: a CPU that calls itself one runs the kernels in Pallas' interpreter, or what stands for them here.
"""

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsnn
from jsnn import fused
from jsnn.fused import kernels, trial

X = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.5, (5, 2, 4)), jnp.float32)
CPU = jax.devices("cpu")[0]
NEURON = jsnn.LIF(0.9)
TESTED = trial.fault_of  # which keeps what it found


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    """Every process has a test of its own; here every test has one."""
    monkeypatch.setattr(trial, "platform_of", lambda device: "cuda")
    TESTED.cache_clear()
    trial._COMPILED.clear()
    yield
    TESTED.cache_clear()
    trial._COMPILED.clear()


@pytest.fixture
def small(monkeypatch):
    """A quicker test of the kernels."""
    monkeypatch.setattr(trial, "NUM_STEPS", 5)
    monkeypatch.setattr(trial, "NUM_NEURONS", 8)
    monkeypatch.setattr(trial, "examples", lambda examples=trial.examples: examples()[:1])


def takes_the_kernel(neuron=NEURON, x=X, method="auto"):
    run = functools.partial(jsnn.unroll, method=method)
    return "@mosaic_gpu" in jax.jit(run).trace(neuron, x).lower(lowering_platforms=("cuda",)).as_text()


def by_scan(neuron, state, inputs, num_steps):
    """What stands for the kernels, as they should be."""
    return jax.lax.scan(neuron.step, state, inputs if num_steps is None else jnp.stack([inputs] * num_steps))


def raising(*arguments):
    raise RuntimeError("the driver is too old:\nno PTX")


def wrong_spikes(neuron, state, inputs, num_steps):
    state, y = by_scan(neuron, state, inputs, num_steps)
    return state, y.at[-1, 0].add(1)


def not_a_number(neuron, state, inputs, num_steps):
    state, y = by_scan(neuron, state, inputs, num_steps)
    return state, y * jnp.nan


def wrong_gradients(neuron, state, inputs, num_steps):
    state, y = by_scan(neuron, state, inputs, num_steps)
    return state, y + 1e-3 * (inputs - jax.lax.stop_gradient(inputs))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (raising, "the driver is too old: no PTX"),
        (wrong_spikes, "the spikes of LIF are not those of a scan"),
        (not_a_number, "the spikes of LIF are not those of a scan"),
        (wrong_gradients, "the gradients of LIF are not those of a scan"),
    ],
)
def test_what_fails_is_one_warning_and_a_scan(kernel, reason, small, monkeypatch):
    expected = jsnn.unroll(NEURON, X, method="scan")
    monkeypatch.setattr(fused, "unroll", kernel)
    with pytest.warns(
        UserWarning, match=f"the fused kernels do not pass their test on .*{reason}.* scans instead"
    ) as seen:
        found = jax.jit(lambda x: jsnn.unroll(NEURON, x))(X)
    assert len(seen) == 1
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not takes_the_kernel()  # and warns no more, which would be an error
    gradient = jax.grad(lambda x: jsnn.unroll(jsnn.ALIF(), x)[1].sum())(X)
    assert bool(jnp.isfinite(gradient).all())


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(kernels, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="this JAX has no Mosaic GPU"):
        jsnn.unroll(NEURON, X)
    jsnn.unroll(NEURON, X)


@pytest.mark.slow
def test_the_kernels_pass():
    assert trial.fault_of(fused.unroll, CPU) is None


@pytest.mark.slow
def test_no_membrane_of_the_test_comes_near_its_threshold():
    """So that a GPU, which rounds in another way, has the same spikes."""
    for neuron, state, currents in trial.examples():
        distances = []

        def spike(u, distances=distances):
            distances.append(float(jnp.abs(u).min()))
            return (u > 0).astype(u.dtype)

        neuron = dataclasses.replace(neuron, surrogate=spike)
        for x in currents:
            state, _ = neuron.step(state, x)
        assert min(distances) > 1e-5


@pytest.fixture
def passed(monkeypatch):
    """A GPU whose kernels have passed."""
    monkeypatch.setattr(trial, "fault_of", lambda run, device: None)


def test_what_passed_is_taken_where_it_fits(passed, monkeypatch):
    monkeypatch.setattr(trial, "_compile", lambda *arguments: None)
    assert takes_the_kernel()
    assert takes_the_kernel(jsnn.ALIF(), X.astype(jnp.bfloat16))
    assert not takes_the_kernel(method="scan")
    assert not takes_the_kernel(jsnn.StochasticSpiking(jax.random.key(0)))
    monkeypatch.setattr(trial, "platform_of", lambda device: "rocm")
    assert not takes_the_kernel()


def test_elsewhere_than_on_the_gpu_it_scans(passed, monkeypatch):
    """Such as on the CPU beside it: there the kernel would be interpreted."""
    monkeypatch.setattr(trial, "_compile", lambda *arguments: None)
    lowered = jax.jit(jsnn.unroll).lower(NEURON, X).as_text()
    assert "mosaic" not in lowered
    found, expected = (jsnn.unroll(NEURON, X, method=method) for method in ("auto", "scan"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_kernel_that_does_not_compile_is_one_warning_and_a_scan(passed, monkeypatch):
    def compile_small(run, given, *arguments):
        if len(jax.tree.leaves(given[1])) > 1:
            raise RuntimeError("out of registers")

    monkeypatch.setattr(trial, "_compile", compile_small)
    with pytest.warns(
        UserWarning, match=r"the fused kernel of ALIF cannot be compiled for .*\(RuntimeError: out of"
    ) as seen:
        jsnn.unroll(jsnn.Sequential(jsnn.LIF(0.9), jsnn.ALIF(), jsnn.ALIF()), X)
    assert len(seen) == 1
    assert not takes_the_kernel(jsnn.ALIF())
    assert takes_the_kernel(jsnn.LIF(0.9))


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True])
def test_it_is_compiled_as_it_is_used(passed, monkeypatch, wide):
    seen = []
    monkeypatch.setattr(fused, "unroll", lambda *arguments: seen.append(arguments[2].dtype) or by_scan(*arguments))
    with jax.enable_x64(wide):
        x = np.zeros((3, 2, 4), float)
        jsnn.unroll(NEURON, x)
        jsnn.unroll(NEURON, x[0], num_steps=3)
        jsnn.unroll(jsnn.SpikingActivation(dt=0.5, spiking_aware=False), x)  # which has no gradient
    assert set(seen) == {jnp.dtype("float64" if wide else "float32")}


class OfNoPytree:
    """A user's neuron that JAX does not know."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, v, current):
        return NEURON.step(NEURON.init(current.shape)._replace(v=v), current)[0].v, v


def test_a_neuron_of_no_pytree_is_compiled(passed, monkeypatch):
    monkeypatch.setattr(fused, "unroll", by_scan)
    jsnn.unroll(OfNoPytree(), X)  # a warning would be an error
    assert list(trial._COMPILED.values()) == [True]


def test_several_devices_have_it_in_parts_alone(passed, monkeypatch):
    monkeypatch.setattr(trial, "_compile", lambda *arguments: None)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not takes_the_kernel()
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))
    run = jax.shard_map(
        lambda x: jsnn.unroll(NEURON, x)[1],
        mesh=mesh,
        in_specs=PartitionSpec(None, "data"),
        out_specs=PartitionSpec(None, "data"),
        check_vma=False,
    )
    assert "@mosaic_gpu" in jax.jit(run).trace(X).lower(lowering_platforms=("cuda",)).as_text()


def test_it_is_tested_whatever_jax_is_doing(small, monkeypatch):
    """Within jit, vmap, grad and scan, where a call by itself would be traced."""
    monkeypatch.setattr(fused, "unroll", by_scan)

    def total(x):
        return jsnn.unroll(NEURON, x)[1].sum()

    runs = [
        jax.jit(jax.grad(total)),
        lambda x: jax.eval_shape(jax.vmap(total, 1), x),
        lambda x: jax.make_jaxpr(jax.lax.scan, static_argnums=0)(lambda sum, x: (sum + total(x[None]), x), 0.0, x),
    ]
    for run in runs:
        TESTED.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(X)
        assert TESTED.cache_info().currsize == 1


def test_other_derivatives_name_the_cure(passed, monkeypatch):
    monkeypatch.setattr(trial, "_compile", lambda *arguments: None)
    with pytest.raises(TypeError, match=r'and so has method="auto" on a GPU: use method="scan"'):
        jax.eval_shape(jax.jacfwd(lambda x: jsnn.unroll(NEURON, x)[1].sum()), X)
