"""Exact gradients of spike times, EventProp, as a neuron whose derivatives are those of when it spikes.

A surrogate gradient says what would change if a neuron spiked a little. EventProp says what changes if each spike comes
a little earlier or later, which is all that a small change of weights does to a model in continuous time.

Up to a spike the membrane u is smooth, and after it, it starts again from where the reset puts it. A change of u or of
the threshold moves the spike by

    shift = -(du - dthreshold) / rise                      rise: the slope of u at the threshold, from below

steps. After a later spike the membrane has had less time to climb, with the slope `rise_after`, from the reset:

    dv = dv_reset - rise_after * shift                     after the spike, and dv = du where there is none

In the outputs [T, B, ...], a spike that comes later moves from its step to the next: d s[t] = shift[t-1] - shift[t].
JAX's transposition of these lines is the backward equation of the adjoint variables, with its jumps at the spikes.
What follows may be anything linear: dense layers, convolutions, delays, filters, integrators, further neurons.

Source: Wunderlich and Pehle, "Event-based backpropagation can compute exact gradients for spiking neural networks",
Scientific Reports (2021).
"""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jsnn.array_arguments import is_neuron
from jsnn.neurons import cuba
from jsnn.neurons.base import MEMBRANE, cast, leakage
from jsnn.neurons.checks import has_field
from jsnn.neurons.pytree import map_parts
from jsnn.neurons.wrappers import MeanRate, Refractory, Stochastic
from jsnn.types import Array, Layered, Neuron, Shape, State, TimeParallel


class EventPropState(NamedTuple):
    """The state of a `CuBaLIF` with exact gradients of its spike times."""

    v: Array
    """Membrane potential, [B, ...]."""
    i: Array
    """Synaptic current, [B, ...]."""
    shift: Array
    """How far the spike of the last step moves, in steps, [B, ...]: 0, and its derivative."""


@nnx.dataclass
class CuBaLIF(cuba.CuBaLIF):
    """The `jsnn.CuBaLIF` with exact gradients of its spike times: the same spikes, in all bits.

    It has the name of the other, so that records and states of a network keep their names.
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> EventPropState:  # type: ignore[override]
        return with_shift(super().init(shape, dtype))

    def step(self, state: EventPropState, current: Array) -> tuple[EventPropState, Array]:  # type: ignore[override]
        threshold = cast(self.threshold, state.v.dtype)
        u, i = self.integrate_current(state, current)  # type: ignore[arg-type]
        u = checkpoint_name(u, MEMBRANE)
        spikes = jax.lax.stop_gradient(self.fire(u, threshold))
        seen = i if self.synapse_order == "decay_then_jump" else state.i + current.astype(state.i.dtype)

        def slope(v: Any) -> Array:
            drive = cast(self.gain, u.dtype) * seen
            return jax.lax.stop_gradient(leakage(jnp.asarray(v, u.dtype), self.decay, self.v_rest) + drive)

        rise = slope(threshold)
        # a membrane that a reset left above the threshold spikes at once, and no small change moves that
        crosses = (spikes > 0) & (state.v - threshold <= 0) & (rise > 0)
        shift = _shift(u - threshold, jnp.where(crosses, rise, jnp.inf))
        if self.reset == "zero":
            v = self.apply_reset(u, spikes, threshold) - slope(self.v_reset) * shift
        else:  # what is subtracted moves the membrane with the slope from below, which `rise` takes away
            v = self.apply_reset(u, spikes, threshold) - (slope(0.0) - rise) * shift
        outputs = spikes + (state.shift - shift)
        return EventPropState(v, i, shift), outputs.astype(current.dtype)


@jax.custom_jvp
def _shift(excess: Array, rise: Array) -> Array:
    """Return 0, with the derivative of a spike's time by the excess of the membrane over the threshold."""
    zero = jnp.zeros_like(excess)
    return jnp.where(excess > 0, zero, zero)  # depends on the excess, as JAX's vmap wants what has a derivative to do


@_shift.defjvp
def _shift_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    excess, rise = primals
    return _shift(excess, rise), -tangents[0] / rise


def with_shift(state: Any) -> EventPropState:
    """Return the state of a `CuBaLIF` with a shift of 0."""
    return EventPropState(state.v, state.i, jnp.zeros_like(state.v))


def with_spike_time_gradients(network: Any) -> Any:
    """Return a network whose gradients are the exact ones of its spike times: what `gradient="eventprop"` runs.

    Each `jsnn.CuBaLIF` in it becomes one with the same spikes and other derivatives. Filters, integrators and delays
    stay, since their own derivatives are exact. Give it to `jsnn.record` where `jsnn.unroll` would take `gradient`.

    Raises:
        ValueError: if a neuron has no exact gradients of spike times here; it is named.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = with_spike_time_gradients(jsnn.CuBaLIF(reset="zero"))
        >>> def first_spike_time(x):
        ...     return jsnn.decode.first_spike_time(jsnn.unroll(neuron, x)[1]).sum()
        >>> impulses = jnp.array([[[0.4]], [[0.4]], [[0.4]]])
        >>> float(first_spike_time(impulses)), jax.grad(first_spike_time)(impulses)[:, 0, 0].round(2)
        (1.0, Array([-2.74, -1.61,  0.  ], dtype=float32))
    """
    if isinstance(network, Neuron):
        _check(network)
    for part in _neurons_in(network):
        _check(part)
    return map_parts(network, lambda part: type(part) is cuba.CuBaLIF, _with_own_gradient)


def _neurons_in(network: Any) -> list[Any]:
    """Return the neurons that a network has as attributes, without the network itself."""
    return [part for path, part in nnx.iter_graph(network) if path and is_neuron(part)]


def _with_own_gradient(neuron: cuba.CuBaLIF) -> CuBaLIF:
    changed: Any = copy.copy(neuron)  # not made anew, which would check again what is trained
    object.__setattr__(changed, "__class__", CuBaLIF)
    return changed


def with_shifts(network: Neuron, state: State, x: Any) -> State:
    """Return a state with the shifts that `with_spike_time_gradients` needs, or without those that no neuron needs.

    It is for inputs `x` at one step. A state of another structure altogether comes back as it is, for the checks that
    all states pass.
    """
    shape, dtype = jax.tree.map(jnp.shape, x), jnp.result_type(*jax.tree.leaves(x))
    wanted = jax.eval_shape(lambda: network.init(shape, dtype))

    def is_ours(part: Any) -> bool:
        return isinstance(part, EventPropState | cuba.CuBaState)

    def fitted(wanted: Any, given: Any) -> Any:
        if isinstance(wanted, EventPropState) and isinstance(given, cuba.CuBaState):
            return with_shift(given)
        is_more = isinstance(wanted, cuba.CuBaState) and isinstance(given, EventPropState)
        return cuba.CuBaState(given.v, given.i) if is_more else given

    try:
        return jax.tree.map(fitted, wanted, state, is_leaf=is_ours)
    except (TypeError, ValueError):
        return state


def check_is_changed(neuron: Any) -> None:
    """Raise ValueError if `with_spike_time_gradients` did not reach a neuron that a network calls."""
    if with_spike_time_gradients(neuron) is not neuron:
        raise ValueError(
            f"gradient='eventprop' cannot change a {type(neuron).__name__} that a function makes or holds: make it an "
            f"attribute of the nnx.Module that calls it"
        )


def has_shifts(state: State) -> bool:
    """Return whether a state holds one of a neuron with exact gradients of its spike times."""

    def is_ours(part: Any) -> bool:
        return isinstance(part, EventPropState)

    return any(map(is_ours, jax.tree.leaves(state, is_leaf=is_ours)))


def _check(neuron: Any) -> None:
    """Raise ValueError if a neuron has no exact gradients of spike times here."""
    name = type(neuron).__name__
    if type(neuron) in (cuba.CuBaLIF, CuBaLIF):
        if neuron.reset not in ("zero", "subtract") or neuron.reset_delay or neuron.detach_reset:
            raise ValueError(
                f"gradient='eventprop' takes a CuBaLIF with reset 'zero' or 'subtract', reset_delay=False and "
                f"detach_reset=False, got {neuron.reset!r}, {neuron.reset_delay} and {neuron.detach_reset}"
            )
        return
    holds_neurons = bool(_neurons_in(neuron))
    if isinstance(neuron, Layered) and (holds_neurons or vars(neuron).keys() & {"layers", "function"}):
        if not isinstance(vars(neuron).get("function", neuron), nnx.Pytree):
            raise ValueError(
                f"gradient='eventprop' cannot change the neurons that a function calls in {name}: make it an "
                f"nnx.Module that has them as attributes, or a jsnn.Sequential"
            )
        return
    is_linear = isinstance(neuron, TimeParallel) and neuron.is_linear and not has_field(neuron, "surrogate")
    is_rule = has_field(neuron, "rule")  # of plasticity, which is not linear in the spikes
    if is_rule or isinstance(neuron, Refractory | Stochastic | MeanRate) or not (is_linear or holds_neurons):
        raise ValueError(
            f"gradient='eventprop' does not fit {name}: it takes jsnn.CuBaLIF for the neurons that spike, and for the "
            f"others those that are linear (LI, CuBaLI, filters, delays); take gradient='surrogate' for {name}"
        )
