"""Learning from a stream: the weights change while it runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.pytree import within_ranges
from jsnn.neurons.shapes import described
from jsnn.online.gathering import Carry, advance
from jsnn.online.parts import split
from jsnn.online.plan import Plan, make_plan
from jsnn.online.rules import Rule, as_rule
from jsnn.online.signals import StepLoss
from jsnn.online.targets import check_batch, check_loss
from jsnn.online.traces import start
from jsnn.rounding import wide
from jsnn.types import Array, Inputs, Neuron, Shape


class LearnerState(NamedTuple):
    """All that a `Learner` changes, a pytree of arrays of a size that does not grow with time."""

    params: nnx.State
    """The network's `nnx.Param`s."""
    optimizer: optax.OptState
    carry: Carry
    """The state of the network, and the traces."""
    gradient: nnx.State
    """The sum of the gradients since the weights changed last."""
    steps: Array
    """Shape=(), dtype=int32: steps since the weights changed last."""


class Learner:
    """Trains a network on a stream: a step takes an input and a target, and changes the weights every k steps.

        learner = jsnn.online.Learner(network, jsnn.losses.cross_entropy, optax.adam(1e-3), rule="ottt")
        state = learner.init((B, 784))
        state, outputs = jax.jit(learner.step)(state, x, labels)

    Each update takes the mean of the gradients of the last `every` steps. The traces go on as if the weights had been
    the present ones all along: an error of the size of the learning rate, as in the papers.

    Args:
        network: a neuron or network with something to train; it stays as it is.
        loss: of the outputs and targets of one step, as in `gradient`.
        optimizer: of optax.
        rule: as in `gradient`.
        every: after how many steps the weights change.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if `every` is below 1; from `init` and `step`, as in `gradient`.

    Examples:
        >>> import jax.numpy as jnp, jsnn, optax
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 8, 3], rngs=nnx.Rngs(0))
        >>> learner = Learner(network, jsnn.losses.cross_entropy, optax.sgd(0.1), rule="ottt")
        >>> state = learner.init((2, 4))
        >>> for _ in range(5):
        ...     state, outputs = learner.step(state, jnp.ones((2, 4)), jnp.array([0, 2]))
        >>> outputs.shape
        (2, 3)
        >>> trained = learner.network(state)
    """

    @checked
    def __init__(
        self,
        network: Neuron,
        loss: StepLoss,
        optimizer: optax.GradientTransformation,
        *,
        rule: str | Rule = "rtrl",
        every: int = 1,
    ) -> None:
        check_is_neuron("Learner", network)
        if every < 1:
            raise ValueError(f"every must be >= 1, got {every}")
        self.rule, self.loss, self.optimizer, self.every = as_rule(rule), loss, optimizer, every
        self._network, self._parts = network, split(network)
        self._plans: dict[Any, Any] = {}

    @checked
    def init(self, shape: Any, dtype: Any = jnp.float32) -> LearnerState:
        """Return the state before the first step, for inputs of `shape`, `[B, ...]`; a pytree of shapes for several."""
        x = described(shape, dtype)
        check_batch(x)
        params = jax.tree.map(jnp.copy, jax.tree.unflatten(self._parts.structure, self._parts.params))
        at_rest = jax.tree.map(wide, self._network.init(jax.tree.map(jnp.shape, x), dtype))
        carry = Carry(at_rest, start(self._planned(x)[0], self._parts, x, at_rest, is_at_rest=True))
        return LearnerState(
            params,
            self.optimizer.init(params),
            carry,
            jax.tree.map(lambda p: jnp.zeros_like(wide(p)), params),
            jnp.zeros((), jnp.int32),
        )

    @checked
    def step(self, state: LearnerState, x: Inputs, targets: Any) -> tuple[LearnerState, Any]:
        """Return the state after a step, and the outputs of the network, `[B, ...]`, with the weights before it.

        Args:
            state: of `init`, or of the step before.
            x: the input of this step, `[B, ...]`.
            targets: what the loss takes of this step, `[B, ...]`.
        """
        now = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        check_batch(now)
        batch = jax.tree.leaves(now)[0].shape[0]
        for shape in map(jnp.shape, jax.tree.leaves(targets)):
            if shape[:1] != (batch,):
                raise ValueError(f"targets must be [B, ...] = ({batch}, ...), those of this step, got shape {shape}")
        plan, shapes = self._planned(now)
        if _shapes(state.carry.traces) != shapes:
            raise ValueError(
                f"state must be one of this learner for inputs of shape {jax.tree.map(jnp.shape, x)} at a step: begin "
                f"anew with learner.init when the batch, the rule or the network changes"
            )
        check_loss(self.loss, self._network, state.carry.state, now, targets)
        params = jax.tree.leaves(state.params)
        carry, found = advance(plan, self._parts, self.loss, params, state.carry, x, targets)
        sums = [g + new.astype(g.dtype) for g, new in zip(jax.tree.leaves(state.gradient), found.gradients)]
        gradient, steps = jax.tree.unflatten(self._parts.structure, sums), state.steps + 1

        def update() -> Any:
            mean = jax.tree.map(lambda g, p: (g / self.every).astype(p.dtype), gradient, state.params)
            updates, optimizer = self.optimizer.update(mean, state.optimizer, state.params)
            zeros = jax.tree.map(jnp.zeros_like, gradient)
            return optax.apply_updates(state.params, updates), optimizer, zeros, jnp.zeros_like(steps)

        def wait() -> Any:
            return state.params, state.optimizer, gradient, steps

        values = update() if self.every == 1 else jax.lax.cond(steps == self.every, update, wait)
        return LearnerState(values[0], values[1], carry, *values[2:]), found.outputs

    def network(self, state: LearnerState) -> Any:
        """Return the network with the weights of a state. Trained parameters are within their ranges."""
        return within_ranges(self._parts.network(jax.tree.leaves(jax.tree.map(jnp.copy, state.params))))

    def _planned(self, x: Any) -> tuple[Plan, Any]:
        """Return the plan for inputs as `x`, and the shapes of the traces."""
        key = _shapes(x), *(leaf.dtype for leaf in jax.tree.leaves(x))
        if key not in self._plans:
            plan = make_plan(self._network, x, self.rule)
            traces = jax.eval_shape(lambda: start(plan, self._parts, x, None, is_at_rest=False))
            self._plans[key] = plan, _shapes(traces)
        return self._plans[key]


def _shapes(tree: Any) -> tuple[Any, tuple[Shape, ...]]:
    """Return the structure of a tree, and the shapes in it."""
    return jax.tree.structure(tree), tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree))
