"""Layers: chains of them, recurrence, pooling and flattening."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.delays.per_neuron import longest_of, read, shortest_of
from jsnn.delays.state import Late, axis_of, empty, pushed
from jsnn.feedback import scan_feedback
from jsnn.network import Network, check_tuple, shown
from jsnn.neurons.calling import call
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.pytree import FrozenPytree, as_data
from jsnn.neurons.ranges import Range
from jsnn.neurons.shapes import check_keeps_shape
from jsnn.tracing import States
from jsnn.types import Array, Layered, Neuron, Parameter, Shape, State
from jsnn.unrolling import over_time

Layer: TypeAlias = Neuron | Callable[[Array], Array]


class Sequential(Network):
    """Layers one after another; any mix of neurons and functions of one array. Itself a Neuron.

    Layers without memory (`nnx.Linear`, `jsnn.Conv`, pooling, plain functions) take `[B, ...]` and know nothing of
    time; in an unroll they see `[T*B, ...]`. The input of one time step must therefore have a batch axis
    (`[B, N]`, `[B, H, W, C]`); only vectors `[N]` may do without.

    Args:
        layers: neurons, Flax modules or functions; at least one. `("hidden", jsnn.LIF(0.9))` gives one a name of its
            own, by which `jsnn.record` and others call it; without it is named by position and class, `"1_LIF"`.
        named: more layers, after the others, by their names: `Sequential(linear, hidden=jsnn.LIF(0.9))`.

    Raises:
        TypeError: if a layer is neither a neuron nor callable, or a class.
        ValueError: if two layers have one name, or a name has a "/" in it; from `init` and `unroll`, if a layer cannot
            take what the one before it gives; it is named.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> network = jsnn.Sequential(nnx.Linear(784, 100, rngs=rngs), jsnn.LIF(0.9), nnx.Linear(100, 10, rngs=rngs))
        >>> state, outputs = jsnn.unroll(network, jnp.ones((32, 4, 784)))  # [T, B, 784] -> [T, B, 10]
        >>> outputs.shape
        (32, 4, 10)
    """

    def __init__(self, *layers: Layer | tuple[str, Layer], **named: Layer) -> None:
        parts: list[tuple[str | None, Any]] = []
        for given in (*layers, *named.items()):
            parts.append(given if type(given) is tuple and len(given) == 2 else (None, given))
        if not parts:
            raise ValueError("Sequential needs at least one layer, got none")
        for index, (name, layer) in enumerate(parts):
            if not isinstance(name, str | None):
                raise TypeError(
                    f"layer {index} must be a layer or (name, layer), got a name of type {type(name).__name__}"
                )
            if isinstance(layer, type):
                raise TypeError(f"layer {index} is the class {layer.__name__}: make one, {layer.__name__}(...)")
            if not (isinstance(layer, Neuron) or callable(layer)):
                raise TypeError(
                    f"layer {index} must be a neuron or a function of one array, got {type(layer).__name__}"
                )
        self.layers = nnx.List([as_data(layer) for _, layer in parts])
        self.own_names = tuple(name for name, _ in parts)
        if len(set(self.names)) < len(parts) or any("/" in name for name in self.names):
            raise ValueError(f"layers need names of their own, without '/', got {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each layer: its own, or its position and its class or function, such as `"1_LIF"`."""
        own_names = self.own_names if any(self.own_names) else (None,) * len(self.layers)
        if len(own_names) != len(self.layers):
            raise ValueError(
                f"layers with names of their own cannot be added or removed, they were {len(own_names)} and are "
                f"{len(self.layers)}: make another Sequential of them"
            )
        pairs = zip(own_names, self.layers)
        return tuple(own or f"{index}_{_class_name(layer)}" for index, (own, layer) in enumerate(pairs))

    def one_step(self, x: Any) -> Any:
        """Return the layers one after another, `[B, ...]`."""
        for name, layer in zip(self.names, self.layers):
            if isinstance(layer, Neuron):
                x = _call(name, functools.partial(call, layer, name=name), x)
            else:
                x = shown(name, apply(name, layer, x))
        return x

    def pack(self, states: States) -> tuple[State, ...]:
        """Return one state for each layer; `()` for those without memory."""
        if inside := [name for name in states if name not in self.names]:
            raise ValueError(
                f"a layer of Sequential calls a neuron, {', '.join(inside)}, whose state would be lost: put the layer "
                f"into a jsnn.Network, as in Sequential(jsnn.Network(block), ...), or the neuron into Sequential itself"
            )
        return tuple(states.get(name, ()) for name in self.names)

    def unpack(self, state: tuple[State, ...]) -> States:
        """Return the states of the neurons by name."""
        check_tuple(state, len(self.layers), "layer")
        parts = zip(self.names, self.layers, state)
        return {name: own for name, layer, own in parts if isinstance(layer, Neuron)}


class RecurrentState(NamedTuple):
    """The state of `Recurrent`."""

    neuron: State
    """That of the neuron inside."""
    outputs: Array
    """What the neuron put out in the last step, [B, ...]."""
    late: State = ()
    """A `DelayState` of what it put out before, where the delay can be longer than a step."""
    synapse: State = ()
    """That of the synapse, if it has one."""


@nnx.dataclass
class Recurrent(Late, FrozenPytree):
    """Feeds a neuron's spikes back to it through a synapse, a step later or more. Itself a Neuron.

        x[t] = current[t] + synapse(spikes[t - delay]);  state, spikes[t] = neuron.step(state, x[t])

    Before the first step there were no spikes. A delay that is not whole lies on the line between its neighbours, which
    makes it trainable, as `jsnn.Delay`. For a delay of each synapse, `synapse` is a `jsnn.DelayedLinear`, whose own
    delays come on top.

    Attributes:
        neuron: any neuron; its output must have the shape of its input.
        synapse: any layer without memory, `[B, N]` -> `[B, N]`, such as `nnx.Linear(N, N, use_bias=False)`, or any
            Neuron that keeps the shape, such as `jsnn.DelayedLinear`.
        delay: after how many steps spikes arrive, 1 or more: a number, or an array, one for each neuron.
        longest: the largest delay that there can be; None takes that of `delay`.

    Raises:
        TypeError: if `neuron` is not a neuron, or `synapse` is not a function; if `delay` is trained and `longest` is
            missing.
        ValueError: if `delay` or `longest` is below 1, or `delay` above `longest`; from `init`, if `synapse` does not
            give back the shape of the current; from `step` and `unroll`, if `neuron` does not.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> neuron = jsnn.Recurrent(jsnn.LIF(0.9), nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0)))
        >>> state, spikes = jsnn.unroll(neuron, jnp.ones((10, 2, 3)))
        >>> spikes.shape
        (10, 2, 3)
    """

    neuron: Neuron
    synapse: Layer
    delay: Parameter = 1
    longest: int | None = nnx.static(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is_neuron("Recurrent", self.neuron)
        if isinstance(self.synapse, type) or not callable(self.synapse):
            raise TypeError(
                f"synapse must be a layer without memory, such as nnx.Linear(...), or a neuron, such as "
                f"jsnn.DelayedLinear(...), got {self.synapse!r}"
            )
        object.__setattr__(self, "longest", longest_of("delay", self.delay, self.longest, least=1))

    def ranges(self) -> dict[str, Range]:
        longest = math.inf if self.longest is None else self.longest
        rule = Range("must be >= 1, as spikes cannot arrive before they are there", lambda x: x >= 1, 1.0, longest)
        return {**super().ranges(), "delay": rule}

    def shortest(self) -> tuple[str, float]:
        steps = shortest_of(self.delay, self.longest)
        return "delay", steps if steps > 1 else 0.0  # a single step has no recurrence, and may be run

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> RecurrentState:
        assert self.longest is not None
        state, synapse = self.neuron.init(shape, dtype), ()
        if isinstance(self.synapse, Neuron):
            synapse = self.synapse.init(shape, dtype)
        feedback = jax.eval_shape(lambda x: self.feedback(synapse, x)[1], jax.ShapeDtypeStruct(shape, dtype))
        if feedback.shape != shape:
            raise ValueError(
                f"the synapse of Recurrent must give back the shape of the current, {shape}, got {feedback.shape}"
            )
        late = empty(self.longest - 1, shape, dtype) if self.longest > 1 else ()
        return RecurrentState(state, jnp.zeros(shape, dtype), late, synapse)

    def step(self, state: RecurrentState, current: Array) -> tuple[RecurrentState, Array]:
        late, synapse, current = self._with_feedback(state, current)
        inner, outputs = self.neuron.step(state.neuron, current)
        check_keeps_shape(self, outputs, current)
        return RecurrentState(inner, outputs.astype(state.outputs.dtype), late, synapse), outputs

    def _with_feedback(self, state: RecurrentState, current: Array) -> tuple[State, State, Array]:
        late, arriving = self.arriving(state)
        # a state and weights may be more precise than the current
        synapse, feedback = self.feedback(state.synapse, arriving.astype(current.dtype))
        return late, synapse, current + feedback.astype(current.dtype)

    def scan(self, state: RecurrentState, inputs: Array, scan: Callable[..., Any]) -> tuple[State, Array]:
        is_derived = type(self) is not Recurrent  # its step may do something else with what the synapse gives
        return scan(self, state, inputs) if is_derived else scan_feedback(self, state, inputs, scan)

    def inside(self, state: RecurrentState, inputs: Array, num_steps: int | None) -> tuple[Neuron, State, Array] | None:
        def step(state: RecurrentState, x: Array) -> tuple[RecurrentState, Array]:
            return self.step(state, x)[0], self._with_feedback(state, x)[2]

        inner = self.neuron
        while isinstance(inner, Recurrent):
            inner = inner.neuron
        if not isinstance(inner, Layered):
            return None
        return self.neuron, state.neuron, jax.lax.scan(step, state, over_time(inputs, num_steps))[1]

    def arriving(
        self, state: RecurrentState, remembered: Callable[[Array], Array] = lambda known: known
    ) -> tuple[State, Array]:
        """Return the spikes on their way after this step, and those that arrive in it; `remembered` may change them."""
        assert self.longest is not None
        if self.longest == 1:
            return state.late, remembered(state.outputs)
        late, known = pushed(state.late, state.outputs)
        axis = axis_of(state.outputs)
        return late, read(remembered(known), jnp.asarray(self.in_use().delay, float) - 1, self.longest, axis)

    def feedback(self, state: State, spikes: Array) -> tuple[State, Array]:
        """Return the state of the synapse and the current that it makes of the spikes that arrive."""
        if isinstance(self.synapse, Neuron):
            return self.synapse.step(state, spikes)
        return state, apply("synapse", self.synapse, spikes)


@checked
def max_pool(x: Array, window: int = 2) -> Array:
    """Return the maximum over windows that do not overlap, `[B, H, W, C] -> [B, H // window, W // window, C]`.

    On spikes it is a logical or. Rows and columns that do not fill a window are dropped. The gradient goes to the
    first of equal values, as in PyTorch and XLA. For other windows: `functools.partial(max_pool, window=3)`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.max_pool(jnp.eye(4)[None, :, :, None])[0, :, :, 0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    largest, *others = _window_slices(x, window)
    for other in others:
        largest = jnp.where(largest >= other, largest, other)
    return largest


@checked
def avg_pool(x: Array, window: int = 2) -> Array:
    """Return the mean over windows that do not overlap, `[B, H, W, C] -> [B, H // window, W // window, C]`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.avg_pool(jnp.eye(4)[None, :, :, None])[0, :, :, 0].tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    return sum(_window_slices(x, window)) / window**2  # type: ignore[return-value]


@checked
def flatten(x: Array) -> Array:
    """Return all axes but the batch in one, `[B, ...] -> [B, N]`."""
    if x.ndim == 0:
        raise ValueError("x must be [B, ...], got a scalar")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def apply(name: str, layer: Callable[[Array], Array], x: Any) -> Any:
    """Return what a layer without memory makes of an input; errors name it."""
    if not isinstance(x, jax.Array):
        return _call(name, layer, x)  # several inputs
    if isinstance(layer, nnx.Conv) and len(x.shape) != len(layer.kernel_size) + 2:
        raise ValueError(
            f"layer {name} takes [B, *space, C] at each time step, {len(layer.kernel_size) + 2} axes, got shape "
            f"{x.shape}: inputs that vary in time are [T, B, *space, C]; a static input [B, *space, C] needs num_steps"
        )
    if isinstance(layer, nnx.Conv | nnx.Linear) and x.shape[-1:] != (layer.in_features,):
        channels = x.shape[-1] if x.shape else "a number"
        raise ValueError(f"layer {name} takes {layer.in_features} channels, got {channels} (shape {x.shape})")
    y = _call(name, layer, x)
    if len(x.shape) > 1 and isinstance(y, jax.Array) and y.shape[:1] != x.shape[:1]:
        raise ValueError(f"layer {name} must keep the batch axis, it made {y.shape} of {x.shape}")
    return y


def _call(name: str, function: Callable[[Any], Any], x: Any) -> Any:
    """Return function(x), with an error that names the layer."""
    try:
        return function(x)
    except (TypeError, ValueError) as error:
        shape = jax.tree.map(jnp.shape, x)
        raise ValueError(f"layer {name} cannot take an input of shape {shape}: {error}") from error


def _class_name(layer: Layer) -> str:
    if isinstance(layer, Neuron | nnx.Module):
        return type(layer).__name__
    return getattr(layer, "__name__", type(layer).__name__)


def _window_slices(x: Array, window: int) -> list[Array]:
    """Return the window's positions one by one, each `[B, H // window, W // window, C]`, in reading order."""
    if x.ndim != 4 or min(x.shape[1:3]) < window or window < 1:
        raise ValueError(f"pooling takes [B, H, W, C] with H and W of at least {window}, got shape {x.shape}")
    height, width = (size // window * window for size in x.shape[1:3])
    return [x[:, i:height:window, j:width:window] for i in range(window) for j in range(window)]
