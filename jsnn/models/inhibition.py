"""Unsupervised features by STDP and lateral inhibition, with a trained readout."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_memory, checked, is_traced
from jsnn.layers import Recurrent, Sequential, flatten
from jsnn.neurons import LI, LIF
from jsnn.neurons.calling import call
from jsnn.neurons.pytree import Ranged, map_parts
from jsnn.plasticity import STDP, Bounds, Chain, Normalization, Plastic
from jsnn.types import Array, Inputs, Neuron, RunPart, Shape, State


class PlasticWeights(nnx.Variable):
    """What a `CompetitiveLayer` learns by itself: no parameter, so that no optimiser trains it."""


class CompetitiveLayer(Ranged, nnx.Module):
    """Neurons that compete for inputs, and learn by STDP whenever they are unrolled in training mode. Itself a Neuron.

    Each neuron's weights go up by the presynaptic traces when it spikes, and are then scaled to the same sum. A spike
    inhibits all other neurons one step later, so few answer to an input, and each becomes a prototype of the inputs
    that it wins. A neuron that spikes more often than `target` gets a higher threshold, so that all of them win some.

    In training mode `jsnn.unroll` changes the layer after the last step, as `nnx.BatchNorm` changes its averages:
    weights go on from batch to batch, changed by the mean over the batch, and so do thresholds. In inference mode
    (`layer.eval()`) nothing changes, and no rule runs. `step` changes nothing either. No gradient passes.

    Source: Diehl and Cook, "Unsupervised learning of digit recognition using spike-timing-dependent plasticity" (2015),
    made smaller: no separate inhibitory neurons, currents in place of conductances, batches, tens of steps an image.

    Args:
        in_features: I, the size of the last axis of the inputs, spikes.
        out_features: N, the number of neurons.
        decay: that of the neurons' membranes, in [0, 1].
        inhibition: what a spike takes from the current of every other neuron.
        threshold: that of all neurons at the beginning.
        decay_pre: that of the presynaptic traces, in [0, 1].
        potentiation: how far a weight goes up for a trace of 1 at a postsynaptic spike.
        total: the sum of each neuron's weights; None for a tenth of `in_features`.
        target: the number of spikes of a neuron for an example that homeostasis aims at, above 0.
        threshold_rate: how far a threshold rises for a batch with twice as many spikes.
        rngs: draws the weights at the beginning.

    Raises:
        ValueError: if a number lies outside of its range.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = jsnn.models.CompetitiveLayer(784, 10, threshold=5.0, rngs=nnx.Rngs(0))
        >>> before = layer.weights[...]
        >>> state, spikes = jsnn.unroll(layer, jnp.ones((20, 2, 784)))  # [T, B, I]
        >>> bool((layer.weights[...] == before).all()), layer.weights[...].sum(0).round().tolist()[:2]
        (False, [78.0, 78.0])
    """

    is_layered = True

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        decay: float = 0.9,
        inhibition: float = 40.0,
        threshold: float = 20.0,
        decay_pre: float = 0.9,
        potentiation: float = 2.0,
        total: float | None = None,
        target: float = 0.1,
        threshold_rate: float = 0.3,
        rngs: nnx.Rngs,
    ) -> None:
        if min(in_features, out_features) < 1:
            raise ValueError(f"a layer must have sizes of 1 or more, got {in_features} and {out_features}")
        if not 0 < target < math.inf:
            raise ValueError(f"target must be > 0 spikes for an example, got {target}")
        for name, value in (("inhibition", inhibition), ("threshold_rate", threshold_rate)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be >= 0, got {value}")
        check_memory("the weights", (in_features, out_features), copies=4)
        self.in_features, self.out_features = in_features, out_features
        self.inhibition, self.target, self.threshold_rate, self.decay = inhibition, target, threshold_rate, decay
        total = in_features / 10 if total is None else total
        self.decay_pre, self.potentiation, self.total = decay_pre, potentiation, total
        self.plasticity = nnx.data(jnp.ones(()))
        weights = jax.random.uniform(rngs.params(), (in_features, out_features))
        self.weights = PlasticWeights(weights * (total / jnp.sum(weights, axis=0)))
        self.threshold = PlasticWeights(jnp.full(out_features, threshold))
        self.deterministic = False
        self.plastic  # noqa: B018 - for its checks of the other numbers

    def __call__(self, x: Inputs) -> Any:
        """Return what stands for the output at one time step, while a `jsnn.Network` is traced.

        See `jsnn.neurons.call`.
        """
        return call(self, x)

    @property
    def neuron(self) -> Neuron:
        """The neurons, as they are now: what is between the weights and the output."""
        neuron = LIF(self.decay, threshold=self.threshold[...], reset="zero")
        return Recurrent(neuron, lambda spikes: self.inhibition * (spikes - jnp.sum(spikes, -1, keepdims=True)))

    @property
    def plastic(self) -> Plastic:
        """The layer as it learns within an unroll."""
        potentiation = self.potentiation * self.plasticity
        stdp = STDP(self.decay_pre, potentiation=potentiation, depression=0.0, bounds=Bounds(0.0, jnp.inf))
        rule = Chain((stdp, Normalization(self.total)))
        return Plastic(self.weights[...], rule, self.neuron, shared=True)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> State:
        """Return the state before the first step, for inputs of `shape`, `[B, I]`."""
        if shape[-1:] != (self.in_features,):
            raise ValueError(f"CompetitiveLayer takes {self.in_features} channels, got shape {shape} at a step")
        if self.deterministic:
            return self.neuron.init((*shape[:-1], self.out_features), dtype)
        return self.plastic.init(shape, dtype)

    def step(self, state: State, current: Array) -> tuple[State, Array]:
        """Run one time step, `current` `[B, I]`; the layer stays as it is."""
        if self.deterministic:
            return self.neuron.step(state, self._currents(current))
        return self.plastic.step(state, current)

    def run_layers(self, state: State, inputs: Any, num_steps: int | None, run_part: RunPart) -> tuple[State, Any]:
        """Run all time steps, and learn from them in training mode; see `jsnn.types.Layered`."""
        if self.deterministic:
            return run_part("", self.neuron, state, self._currents(inputs), num_steps)
        state, spikes = run_part("", self.plastic, state, inputs, num_steps)
        spikes = jax.lax.stop_gradient(spikes)
        if not spikes.size:
            return state, spikes
        counts = jnp.mean(jnp.sum(spikes.astype(jnp.float32), axis=0).reshape(-1, self.out_features), axis=0)
        self.weights[...] = jax.lax.stop_gradient(state.weights).astype(self.weights.dtype)
        risen = self.threshold[...] + self.plasticity * self.threshold_rate * (counts / self.target - 1)
        self.threshold[...] = jnp.maximum(risen, 0.1)
        return state, spikes

    def _currents(self, inputs: Array) -> Array:
        return jnp.matmul(inputs, self.weights[...].astype(inputs.dtype))


@checked
def at_plasticity(network: Any, plasticity: float | Array) -> Any:
    """Return a network whose `CompetitiveLayer`s learn more slowly, or no more: for a schedule, `make_step(at_step=)`.

    Args:
        network: any network.
        plasticity: the factor on the changes of weights and thresholds, 0 or more; 1 at the beginning.

    Raises:
        ValueError: if the factor is negative, or not one number.

    Examples:
        >>> import jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.competitive([64, 32, 10], rngs=nnx.Rngs(0))
        >>> float(at_plasticity(network, 0.5).layers[1].plasticity)
        0.5
    """
    if not is_traced(plasticity) and not (jnp.ndim(plasticity) == 0 and 0 <= plasticity < jnp.inf):
        raise ValueError(f"plasticity must be a number >= 0, got {plasticity}")

    def change(layer: CompetitiveLayer) -> CompetitiveLayer:
        return layer._changed({"plasticity": jnp.asarray(plasticity, jnp.float32)})

    return map_parts(network, lambda part: isinstance(part, CompetitiveLayer), change)


@checked
def competitive(sizes: Sequence[int], *, rngs: nnx.Rngs, **options: Any) -> Sequential:
    """Return a `CompetitiveLayer` that learns by itself, and a trained readout: spikes `[B, ...]` -> `[B, outputs]`.

    The readout sums up the weighted spikes of all steps.

    Args:
        sizes: the number of inputs, of competing neurons, and of outputs.
        rngs: draws the weights.
        options: arguments of `CompetitiveLayer`.

    Raises:
        ValueError: if there are not three sizes, or one is below 1, and as `CompetitiveLayer`.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.competitive([64, 32, 10], rngs=nnx.Rngs(0))
        >>> jsnn.unroll(network, jnp.ones((16, 4, 64)))[1].shape
        (16, 4, 10)
    """
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"sizes must be three numbers >= 1, (inputs, hidden, outputs), got {tuple(sizes)}")
    inputs, hidden, outputs = sizes
    layer = CompetitiveLayer(inputs, hidden, rngs=rngs, **options)
    linear = nnx.Linear(hidden, outputs, use_bias=False, rngs=rngs)
    return Sequential(flatten, ("features", layer), linear, ("readout", LI(1.0)))
