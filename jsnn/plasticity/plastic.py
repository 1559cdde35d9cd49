"""`Plastic`: a dense synapse whose weights are part of the state, with the rule that changes them."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_memory, is_real
from jsnn.neurons.checks import check_holds, check_is_neuron, is_key
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import NUMBER
from jsnn.neurons.shapes import check_floating, check_order, check_state
from jsnn.plasticity.rule import Rule, Traces, check_is_rule, over_batch, project
from jsnn.types import Array, Inputs, Neuron, Shape, State, as_shape


class PlasticState(NamedTuple):
    """The state of `Plastic`."""

    weights: Array
    """[B, ..., I, N], for each sample its own, or, with `shared`, [I, N]."""
    traces: Traces
    """The traces of the rule."""
    neuron: State = ()
    """That of the postsynaptic neurons, if they are inside."""


@nnx.dataclass
class Plastic(FrozenPytree):
    """A dense synapse whose weights change while it runs, by a rule of plasticity. Itself a Neuron.

    Each step, in this order, with the weights w that the step before has left:

        1. sent = pre, or what the rule makes of it (`ShortTerm`);  current_j = bias_j + sum over i of sent_i * w_ij
        2. the postsynaptic neurons step; post are their spikes
        3. the rule changes the weights and its traces, by pre and post

    The input at a step is the presynaptic activity `[B, I]`, or a dict of it and of what the rule looks at besides:

        {"input": [B, I], "post": [B, N], "reward": [B]}

    With a `neuron` the output is that of the neuron. Without one it is the current, and rules that look at the
    postsynaptic activity take it from "post". Where both are there, the rule looks at "post", as at a teacher's spikes,
    and the neuron goes its own way.

    Each sample of a batch has weights of its own, `[B, I, N]`: samples do not know of each other, and a batch gives
    what one sample after another gives. With `shared`, all have one weight matrix, `[I, N]`, which a step changes by
    the mean of what it would do for each sample: to learn from many samples at once, and with little memory. Bounds
    hold for the mean.

    The weights at the beginning are values that no optimiser trains, unless `learn_initial` asks for it. The gradient
    of what a rule's own `nnx.Param`s do is taken through all steps, so the backward pass holds the weights of all of
    them: `jsnn.unroll(..., remat=True)` holds sqrt(T) of them.

    Attributes:
        synapse: a dense layer, `nnx.Linear` or `jsnn.Linear`, of which weights and bias are copied, or an array of
            weights `[I, N]`. The attribute is that array.
        rule: how weights change, such as `jsnn.plasticity.STDP(...)`.
        neuron: the postsynaptic neurons, any Neuron whose output has the shape of its input; None: outside.
        shared: whether a batch has one weight matrix.
        learn_initial: whether `synapse` is an `nnx.Param`, which is trained as others are, by gradients.
        bias: what is added to the current, `[N]`, or None; that of the layer. No rule changes it.

    Raises:
        TypeError: if `synapse` is neither a dense layer nor an array, or an `nnx.Param` without `learn_initial`; if
            `rule` is not a rule, or `neuron` is not a neuron.
        ValueError: if `synapse` is not `[I, N]`; from `init`, `step` and `unroll`, if the input has another shape, or
            lacks what the rule looks at.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> rule = jsnn.plasticity.STDP.from_time_constants(20e-3, 20e-3, dt=1e-3)
        >>> plastic = jsnn.Plastic(nnx.Linear(784, 100, rngs=nnx.Rngs(0)), rule, jsnn.LIF(0.9))
        >>> state, spikes = jsnn.unroll(plastic, jnp.ones((20, 2, 784)))  # [T, B, I]
        >>> spikes.shape, state.weights.shape
        ((20, 2, 100), (2, 784, 100))
    """

    synapse: Any
    rule: Rule
    neuron: Neuron | None = None
    shared: bool = nnx.static(default=False, kw_only=True)
    learn_initial: bool = nnx.static(default=False, kw_only=True)
    bias: Any = nnx.data(default=None, kw_only=True)

    _checks: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for name in ("shared", "learn_initial"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"Plastic(): {name} must be True or False, got {getattr(self, name)!r}")
        check_is_rule("Plastic", self.rule)
        if self.neuron is not None:
            check_is_neuron("Plastic", self.neuron)
        layer = self.synapse if isinstance(self.synapse, nnx.Linear) else None
        bias = layer.bias if layer is not None and self.bias is None else self.bias
        object.__setattr__(self, "synapse", self._initial("synapse", layer.kernel if layer else self.synapse, layer))
        object.__setattr__(self, "bias", None if bias is None else self._initial("bias", bias, layer))
        shape = self.synapse.shape
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"synapse must be weights of shape [I, N], got shape {shape}")
        if self.bias is not None and self.bias.shape != shape[1:]:
            raise ValueError(f"bias must be [N], of shape {shape[1:]}, got shape {self.bias.shape}")
        super().__post_init__()

    def _initial(self, name: str, value: Any, layer: nnx.Linear | None) -> Any:
        """Return weights as they are held: an array, or an `nnx.Param` if they are to be trained."""
        if isinstance(value, nnx.Param) and layer is None:
            if self.learn_initial:
                return value
            raise TypeError(
                f"{name} is an nnx.Param, but a rule changes plastic weights, not an optimiser: give its values, "
                f"{name}[...], or learn_initial=True to train the weights at the beginning"
            )
        values = value[...] if isinstance(value, nnx.Variable) else value
        if not isinstance(values, jax.Array | np.ndarray) or is_key(values):
            raise TypeError(
                f"{name} must be a dense layer, such as nnx.Linear(I, N, rngs=rngs), or an array of weights [I, N], "
                f"got {type(value).__name__}: make lists arrays, and put what comes before the synapse in front of it"
            )
        if not is_real(values):
            raise TypeError(f"{name} must be real numbers, got {values.dtype}")
        least = jnp.bfloat16 if jnp.issubdtype(values.dtype, jnp.floating) else jnp.float32  # exact for whole numbers
        values = jnp.asarray(values, jnp.promote_types(values.dtype, least))
        check_holds(name, values, NUMBER.holds, NUMBER.rule)
        if self.learn_initial:
            return nnx.Param(jnp.array(values))
        return values if layer is None else jax.lax.stop_gradient(jnp.array(values))

    def init(self, shape: Any, dtype: Any = jnp.float32) -> PlasticState:
        """Return the state before the first step, for inputs of `shape`, `[B, I]`, or a dict of shapes."""
        inputs = {name: as_shape(own) for name, own in shape.items()} if isinstance(shape, Mapping) else as_shape(shape)
        pre = self._check_shapes(inputs)
        post = (*pre[:-1], self.synapse.shape[1])
        whole = self.synapse.shape if self.shared else (*pre, post[-1])
        check_memory("the plastic weights", whole)
        weights = jnp.broadcast_to(jnp.asarray(self.synapse, dtype), whole)
        neuron = () if self.neuron is None else self.neuron.init(post, dtype)
        return PlasticState(weights, self.rule.init(pre, post, dtype), neuron)

    def step(self, state: PlasticState, current: Inputs) -> tuple[PlasticState, Any]:
        """Run one time step, `current` `[B, I]`, or a dict."""
        if not isinstance(current, Mapping):
            check_order(self, state, current)
        check_floating(current)
        self._check_shapes(jax.tree.map(jnp.shape, current))
        check_state(self, state, current)
        inputs: dict[str, Array] = dict(current) if isinstance(current, Mapping) else {"input": current}  # type: ignore[dict-item]
        x = inputs.pop("input")
        dtype = state.weights.dtype
        inputs = {name: value.astype(dtype) for name, value in inputs.items()}
        pre = x.astype(dtype)

        traces, sent = self.rule.transmit(state.traces, pre)
        outputs = project(sent.astype(dtype), state.weights)
        outputs = (outputs if self.bias is None else outputs + jnp.asarray(self.bias, dtype)).astype(x.dtype)
        neuron = state.neuron
        if self.neuron is not None:
            neuron, outputs = self.neuron.step(neuron, outputs)
            self._check_outputs(outputs, (*x.shape[:-1], self.synapse.shape[1]))
        post: Any = inputs.pop("post", None if self.neuron is None else outputs.astype(dtype))
        factors = {name: jnp.broadcast_to(value, x.shape[:-1]) for name, value in inputs.items()}

        weights, traces = self.rule.update(state.weights, traces, pre, post, **factors)
        return PlasticState(*self._as_before(state, weights, traces), neuron), outputs

    def _check_shapes(self, shapes: Any) -> Shape:
        """Raise ValueError unless the inputs of a step are what the rule takes; return the shape of the activity."""
        given = shapes if isinstance(shapes, Mapping) else {"input": shapes}
        needed = {"input", *self.rule.factors}
        if self.rule.needs_post and self.neuron is None:
            needed.add("post")
        rule = type(self.rule).__name__
        if not needed <= given.keys() <= needed | {"post"}:
            raise ValueError(
                f"Plastic with {rule} {'and a' if self.neuron is not None else 'without a'} neuron takes a dict of "
                f"{', '.join(sorted(needed))} at a step, got {', '.join(map(str, given)) or 'none'}"
            )
        pre = given["input"]
        size_in, size_out = self.synapse.shape
        if pre[-1:] != (size_in,):
            raise ValueError(f"Plastic takes {size_in} presynaptic neurons on the last axis, got shape {pre} at a step")
        wanted = {name: (pre[:-1], ()) for name in self.rule.factors} | {"post": ((*pre[:-1], size_out),)}
        for name, shape in given.items():
            if name != "input" and shape not in wanted[name]:
                fitting = " or ".join(map(str, wanted[name]))
                raise ValueError(f"{name} must be of shape {fitting} at a step, as the inputs are {pre}, got {shape}")
        return pre

    def _check_outputs(self, outputs: Any, shape: Shape) -> None:
        """Raise ValueError if the neuron does not keep the shape of its input."""
        if getattr(outputs, "shape", None) != shape:
            found = jax.tree.map(jnp.shape, outputs)
            raise ValueError(f"the neuron in Plastic must put out the shape of its input, {shape}, got {found}")

    def _as_before(self, state: PlasticState, weights: Array, traces: Traces) -> tuple[Array, Traces]:
        """Return weights and traces in the shapes and dtypes of those before; raise ValueError if they do not fit."""
        if self.shared and weights.ndim > state.weights.ndim:
            weights = over_batch(weights, state.weights.ndim)
        before, after = (state.weights, state.traces), (weights, traces)
        found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (after, before))
        if found != wanted:
            raise ValueError(
                f"{type(self.rule).__name__}.update must return weights and traces of the shapes of those before, "
                f"{wanted}, got {found}"
            )
        return jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), before, after)
