"""Exact gradients of spike times: against finite differences of the model in continuous time, and another library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.neurons.eventprop import with_spike_time_gradients

END = 0.04  # s
INPUTS = [(0.001, 0), (0.003, 1), (0.006, 2), (0.01, 0), (0.014, 2)]  # (time in s, of which input)
RANDOM = np.random.default_rng(2)
BASE = {
    "weights": [RANDOM.normal(250, 80, (3, 4)), RANDOM.normal(130, 60, (4, 2)), RANDOM.normal(size=(2, 1))],
    "tau_mem": 0.02,
    "tau_syn": 0.005,
    "threshold": 1.0,
}


def response(s, tau_mem, tau_syn):
    """The membrane at a time after a unit of current: the solution of v' = -v/tau_mem + i, i' = -i/tau_syn."""
    return tau_mem * tau_syn / (tau_mem - tau_syn) * (np.exp(-s / tau_mem) - np.exp(-s / tau_syn))


def spikes_of(events, weights, tau_mem, tau_syn, threshold):
    """The spikes (time, neuron) of one layer, each found in the exact solution by bisection; the reset is to zero."""
    found = []
    for neuron, own in enumerate(weights.T):
        v = i = now = 0.0
        for until, jump in [*((time, own[source]) for time, source in sorted(events)), (END, 0.0)]:
            while True:

                def membrane(s, v=v, i=i):
                    return v * np.exp(-s / tau_mem) + i * response(s, tau_mem, tau_syn)

                grid = np.linspace(0, until - now, 200)
                above = membrane(grid) > threshold
                if not above.any():
                    break
                low, high = grid[above.argmax() - 1], grid[above.argmax()]
                for _ in range(50):
                    middle = (low + high) / 2
                    low, high = (low, middle) if membrane(middle) > threshold else (middle, high)
                now, v, i = now + high, 0.0, i * np.exp(-high / tau_syn)
                found.append((now, neuron))
            v, i, now = membrane(until - now), i * np.exp(-(until - now) / tau_syn) + jump, until
    return found


def continuous_loss(loss, layers, weights, tau_mem, tau_syn, threshold):
    events = INPUTS
    for w in weights[2 - layers : 2] if layers == 2 else weights[:1]:
        events = spikes_of(events, w, tau_mem, tau_syn, threshold)
    count = 4 if layers == 1 else 2
    if loss == "times":
        return sum((n + 1) * min(time for time, neuron in events if neuron == n) for n in range(count))
    readout = weights[2] if layers == 2 else np.ones((4, 1))
    return sum(readout[neuron, 0] * response(END - time, tau_mem, tau_syn) for time, neuron in events)


def grid_loss(loss, layers, reset, dt, parameters, **options):
    """The same in steps of dt."""
    decays = (nnx.Param(jnp.exp(-dt / parameters[name])) for name in ("tau_mem", "tau_syn"))
    cuba = dict(zip(("decay", "decay_syn"), decays), gain=dt)
    spikes = jnp.zeros((round(END / dt), 1, 3))
    for time, source in INPUTS:
        spikes = spikes.at[round(time / dt), 0, source].set(1)
    neuron = jsnn.CuBaLIF(**cuba, threshold=nnx.Param(jnp.asarray(parameters["threshold"])), reset=reset)
    w = parameters["weights"]
    parts = [lambda x: x @ w[0], neuron, *([lambda x: x @ w[1], neuron] if layers == 2 else [])]
    if loss == "membrane":
        readout = w[2] if layers == 2 else jnp.ones((4, 1))
        parts += [lambda x: x @ readout, jsnn.CuBaLI(**cuba)]
    _, outputs = jsnn.unroll(jsnn.Sequential(*parts), spikes, gradient="eventprop", **options)
    if loss == "times":
        return (jnp.arange(1, outputs.shape[-1] + 1) * jsnn.decode.first_spike_time(outputs)[0]).sum() * dt
    return outputs[-1, 0, 0]


def moved(direction, by):
    return jax.tree.map(lambda value, change: value + by * change, BASE, direction)


def directions():
    """One direction for each parameter, in which it alone moves."""
    zero, random = jax.tree.map(np.zeros_like, BASE), np.random.default_rng(0)
    for index, weights in enumerate(BASE["weights"]):
        changed = list(zero["weights"])
        changed[index] = random.uniform(0.5, 1.5, weights.shape) * weights
        yield zero | {"weights": changed}
    for name in ("tau_mem", "tau_syn", "threshold"):
        yield zero | {name: BASE[name]}


@pytest.mark.rows(1)
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("layers", [2, 1])
@pytest.mark.parametrize("loss", ["membrane", "times"])
def test_gradients_become_those_of_the_continuous_model(loss, layers, reset):
    with jax.enable_x64(True):
        ways, errors = list(directions()), []
        values = [[continuous_loss(loss, layers, **moved(way, by)) for by in (1e-5, -1e-5)] for way in ways]
        expected = np.array([(more - less) / 2e-5 for more, less in values])
        for dt in (2e-4, 2.5e-5):
            gradient = jax.jit(jax.grad(functools.partial(grid_loss, loss, layers, reset, dt)))(
                jax.tree.map(jnp.asarray, BASE)
            )
            found = [sum(map(jnp.vdot, *map(jax.tree.leaves, (gradient, way)))) for way in ways]
            errors.append(np.abs(np.array(found) - expected).max() / np.abs(expected).max())
    assert errors[1] < min(0.04, errors[0] / 3), errors


def test_gradients_are_those_of_eventax(parity):
    """The yin-yang task, in steps of 10 us."""
    golden, dt = parity("eventprop_eventax"), 1e-5
    points = golden["points"]
    steps = np.round(0.03 / dt * np.concatenate([points, 1 - points, np.zeros((len(points), 1))], 1)).astype(int)
    spikes = np.zeros((1250, len(points), 5), np.float32)
    for sample, neuron in np.ndindex(steps.shape):
        if steps[sample, neuron] < len(spikes):
            spikes[steps[sample, neuron], sample, neuron] = 1
    neuron = jsnn.CuBaLIF.from_time_constants(0.02, 0.005, dt=dt, gain=dt / 0.02, reset="zero")

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(1, None))
    def found(spikes, weights):
        def loss(weights):
            network = jsnn.Sequential(lambda x: x @ weights[0], neuron, lambda x: x @ weights[1], neuron)
            _, outputs = jsnn.unroll(network, spikes[:, None], gradient="eventprop")
            times = dt * jsnn.decode.first_spike_time(outputs)[0]
            return times @ jnp.arange(1.0, 4), times

        return jax.grad(loss, has_aux=True)(weights)

    weights = tuple(jnp.asarray(golden[name], jnp.float32) for name in ("first", "second"))
    gradients, times = found(jnp.asarray(spikes), weights)
    np.testing.assert_allclose(times, golden["times"], atol=4 * dt)  # the grid is early by a step or two a layer
    for gradient, name in zip(gradients, ("of_first", "of_second")):
        np.testing.assert_allclose(gradient, golden[name], atol=0.02 * np.abs(golden[name]).max())


# On the grid

CURRENTS = jnp.asarray(np.random.default_rng(0).uniform(-0.3, 0.8, (13, 2, 3)), jnp.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(13, 2, 3)), jnp.float32)
LIF = jsnn.CuBaLIF(nnx.Param(jnp.array([0.8, 0.9, 0.95])), 0.7, reset="zero")


def gradients(run, neuron=LIF, currents=CURRENTS, weights=WEIGHTS):
    """Of a loss on the whole raster, by the neuron and the currents."""
    return jax.grad(lambda *args: (run(*args)[1] * weights).sum(), argnums=(0, 1))(neuron, currents)


def unroll(neuron, currents, **options):
    return jsnn.unroll(neuron, currents, gradient="eventprop", **options)


def assert_close(actual, expected, tolerance=1e-5):
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("options", [{}, {"reset": "zero", "v_reset": -0.2}, {"synapse_order": "jump_then_decay"}])
def test_spikes_are_those_without_it(options, dtype):
    neuron, currents = jsnn.CuBaLIF(0.9, 0.7, v_rest=0.1, **options), CURRENTS.astype(dtype)
    (state, spikes), (expected, expected_spikes) = unroll(neuron, currents), jsnn.unroll(neuron, currents)
    assert spikes.dtype == dtype
    assert spikes.any()
    assert not state.shift.any()
    np.testing.assert_array_equal(spikes, expected_spikes)
    np.testing.assert_array_equal(state[:2], expected)


def in_two_parts(neuron, currents):
    state, first = unroll(neuron, currents[:6])
    return state, jnp.concatenate([first, unroll(neuron, currents[6:], state=state)[1]])


def by_steps(neuron, currents):
    neuron = with_spike_time_gradients(neuron)
    return jax.lax.scan(neuron.step, neuron.init(currents.shape[1:]), currents)


def from_another_state(neuron, currents):
    return unroll(neuron, currents, state=neuron.init(currents.shape[1:]))


WAYS = {
    "in_two_parts": in_two_parts,
    "by_steps": by_steps,
    "from_another_state": from_another_state,
    "remat": functools.partial(unroll, remat=5),
    "truncate": functools.partial(unroll, truncate=13),
    "batch": lambda neuron, currents: jax.vmap(unroll, (None, 1), (0, 1))(neuron, currents),
    "network": lambda neuron, currents: unroll(jsnn.Sequential(neuron), currents),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_every_way_gives_the_same_gradients(run):
    expected = gradients(unroll)
    assert all(map(np.any, jax.tree.leaves(expected)))
    assert_close(jax.jit(functools.partial(gradients, run))(), expected)


def test_a_recurrence_is_a_layer_with_a_delay():
    weight = jnp.array([[0.0, 0.6, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # from neuron 0 to 1

    def recurrent(neuron, currents):
        return unroll(jsnn.Recurrent(neuron, lambda x: x @ weight, delay=2), currents)

    def layers(neuron, currents):
        spikes = unroll(neuron, currents)[1]
        late = jnp.concatenate([jnp.zeros_like(spikes[:2]), spikes[:-2]])
        both = unroll(neuron, currents + late @ weight)
        return both

    assert_close(jax.jit(functools.partial(gradients, recurrent))(), jax.jit(functools.partial(gradients, layers))())


@pytest.mark.parametrize(("scale", "moves"), [(0.0, False), (-5.0, False), (1e3, True)])
def test_no_spikes_and_many_spikes_have_finite_gradients(scale, moves):
    found = gradients(unroll, jsnn.CuBaLIF(nnx.Param(jnp.array(0.8)), 0.7), scale * jnp.abs(CURRENTS) + scale)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(found))
    assert any(np.any(g) for g in jax.tree.leaves(found)) == moves


def test_states_are_those_of_either_gradient():
    network, x = jsnn.Sequential(jsnn.CuBaLIF()), jnp.ones((8, 2, 3))
    _, wanted = jsnn.unroll(network, x)
    for first, then in (("surrogate", "eventprop"), ("eventprop", "surrogate")):
        state, _ = jsnn.unroll(network, x[:4], gradient=first)
        state, y = jsnn.unroll(network, x[4:], state, gradient=then)
        np.testing.assert_array_equal(y, wanted[4:])
        assert hasattr(state[0], "shift") == (then == "eventprop")
    own = with_spike_time_gradients(jsnn.CuBaLIF())
    assert hasattr(jsnn.unroll(own, x, own.init((2, 3)))[0], "shift")


def test_a_rounded_network_has_no_gradients_of_spike_times():
    with pytest.raises(TypeError, match=r"layers\.1 has gradients of spike times, .* take the network before"):
        jsnn.quant.aware(with_spike_time_gradients(jsnn.Sequential(jsnn.flatten, jsnn.CuBaLIF())))


def test_a_later_spike_moves_to_the_next_step():
    """A loss on the raster, by hand: i = 0.6, 0.6; v = 0.6, 1.2, which rises by 0.6 a step at the threshold."""
    neuron = jsnn.CuBaLIF(1.0, 1.0, reset="zero")
    weights = jnp.array([5.0, 7.0, 11.0, 2.0])[:, None]
    _, found = gradients(unroll, neuron, jnp.array([0.6, 0.0, -0.6, 0.0])[:, None], weights)
    # a unit of current at step 0 is two in the membrane at step 1; it starts from 0 again with a slope of 0.6
    np.testing.assert_allclose(found[:, 0], [(11 - 7) * -2 / 0.6, (11 - 7) * -1 / 0.6, 0, 0], rtol=1e-6)


class Own:
    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        return state + current, current


class Holds(nnx.Module):
    """A module that calls what it was given."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


RULE = jsnn.plasticity.STDP.from_time_constants(20e-3, 20e-3, dt=1e-3)


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (jsnn.LIF(), "does not fit LIF: it takes jsnn.CuBaLIF"),
        (jsnn.Sequential(jsnn.CuBaLIF(), jsnn.Sequential(jsnn.ALIF())), "does not fit ALIF"),
        (jsnn.Recurrent(jsnn.LIF(), jnp.sin), "does not fit LIF"),
        (jsnn.Refractory(jsnn.CuBaLIF(), 2), "does not fit Refractory"),
        (jsnn.SlidingPSN(jnp.ones(3)), "does not fit SlidingPSN"),
        (jsnn.MeanRate(jsnn.CuBaLIF(), 4), "does not fit MeanRate"),
        (jsnn.Plastic(jnp.ones((3, 3)), RULE, jsnn.CuBaLIF()), "does not fit Plastic"),
        (jsnn.Network(Holds(lambda x: jsnn.LIF()(x))), "does not fit LIF"),
        (jsnn.Network(Holds(lambda x: jsnn.CuBaLIF()(x))), "cannot change a CuBaLIF that a function makes or holds"),
        (jsnn.Sequential(jsnn.CuBaLIF(), jsnn.Network(Holds(jsnn.CuBaLIF(reset="none")))), "got 'none'"),
        (jsnn.Sequential(Own()), "does not fit Own"),
        (jsnn.models.competitive([3, 4, 2], rngs=nnx.Rngs(0)), "does not fit CompetitiveLayer"),
        (jsnn.Network(lambda x: jsnn.CuBaLIF()(x)), "make it an nnx.Module"),
        (jsnn.CuBaLIF(reset="none"), "reset 'zero' or 'subtract', .* got 'none'"),
        (jsnn.CuBaLIF(reset_delay=True), "reset_delay=False"),
        (jsnn.CuBaLIF(detach_reset=True), "detach_reset=False"),
    ],
)
def test_what_does_not_fit_is_named(neuron, message):
    with pytest.raises(ValueError, match=message):
        unroll(neuron, CURRENTS)


def test_what_a_reset_left_above_the_threshold_does_not_move():
    """One input brings 3.5 thresholds at once, and three more spikes after it, under a drive that fades away."""
    currents = jnp.zeros((40, 1)).at[0].set(3.5)
    weights = jnp.arange(40.0)[:, None] ** 2
    neuron, found = gradients(unroll, jsnn.CuBaLIF(nnx.Param(jnp.array(1.0)), 0.01), currents, weights)
    _, spikes = unroll(jsnn.CuBaLIF(1.0, 0.01), currents)
    assert np.flatnonzero(spikes).tolist() == [0, 1, 2]
    # the first alone moves, -1 step for 3.5: from the step 0, of weight 0, to step 1
    np.testing.assert_allclose(found[:, 0], [-1 / 3.5, *[0] * 39], atol=1e-6)
    assert np.isfinite(neuron.decay[...])


def test_a_gradient_of_another_name_is_refused():
    with pytest.raises(ValueError, match="gradient must be 'surrogate' or 'eventprop', got 'exact'"):
        jsnn.unroll(LIF, CURRENTS, gradient="exact")


def test_a_config_trains_with_it():
    from configs import yin_yang
    from experiments import build

    settings = yin_yang.get_config()
    train = settings.data.make().train
    network, inputs, targets = build.make_network(settings, train), *map(jnp.asarray, train.rows(slice(4)))

    def of_run(network):
        return build.make_loss(settings, training=True)(network, inputs, targets, jax.random.key(0))[0]

    def of_unroll(network):
        outputs = jsnn.unroll(network, settings.encoder.make(settings.num_steps)(None, inputs), gradient="eventprop")[1]
        return jsnn.losses.cross_entropy(jsnn.decode.max_over_time(outputs), targets)

    found, expected = (jax.jit(jax.grad(loss))(network) for loss in (of_run, of_unroll))
    assert any(map(np.any, jax.tree.leaves(expected)))
    assert_close(found, expected)
