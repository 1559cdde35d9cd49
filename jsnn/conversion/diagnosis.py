"""How well a converted network stands for its rate network, activation by activation and step by step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.conversion.network import Converted, replace
from jsnn.conversion.place import Scaled, wide
from jsnn.metrics import is_correct
from jsnn.neurons import Rate
from jsnn.neurons.pytree import FrozenPytree, parts_with_dt
from jsnn.types import Array, Shape, State
from jsnn.unrolling import unroll


class Response(NamedTuple):
    """What a converted network does with some inputs, without its spikes at every step."""

    state: State
    """To go on from."""
    outputs: Array
    """[T, B, ...]."""
    means: dict[str, Array]
    """Each activation's output averaged over time, [B, ...]."""
    spikes: dict[str, Array]
    """How often each neuron spiked, [B, ...]."""


@checked
def respond(network: Converted, inputs: Array, num_steps: int, state: State = None) -> Response:
    """Run a converted network on a static input `[B, ...]`, and count spikes on the way; nothing else is kept.

    With the `state` of an earlier response it goes on from there, and means and counts are over all steps so far.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> network = jsnn.convert(jax.nn.relu, jnp.ones((1, 2)), dt=0.1)
        >>> response = respond(network, jnp.array([[5.0, -1.0]]), num_steps=10)  # 5 Hz for 1 s
        >>> response.spikes["0_relu"].tolist(), response.means["0_relu"].tolist()
        ([[5.0, 0.0]], [[5.0, 0.0]])
    """
    counting = replace(network, neurons=[_Counting(neuron) for neuron in network.neurons])  # type: ignore[misc]
    # On a CPU step by step, which keeps what lies between two neurons in its cache.
    remat = 1 if jax.default_backend() == "cpu" else False
    state, outputs = unroll(counting, inputs, state, num_steps=num_steps, remat=remat)
    counts = {name: neuron for name, (neuron, _) in zip(network.names, state)}  # after them come those of means
    means = {name: count.total / count.steps for name, count in counts.items()}
    return Response(state, outputs, means, {name: count.spikes for name, count in counts.items()})


class ActivationDiagnosis(NamedTuple):
    """One activation beside the rate that it stands for."""

    name: str
    relative_error: float
    """|mean output - activation| / |activation|, Euclidean over neurons and inputs."""
    cosine_similarity: float
    silent: float
    """Of all pairs of a neuron and an input, the fraction without a spike."""
    saturated: float
    """Of all pairs of a neuron and an input, the fraction with at least as many spikes as steps."""
    rate: float
    """Mean firing rate, Hz (spikes per step over dt)."""
    spikes: float
    """Mean number of spikes for one input, over all neurons."""
    output_error: float
    """The relative error of the network's mean output when this activation alone spikes."""


class Diagnosis(NamedTuple):
    """What `diagnose` found; printed, a table."""

    activations: list[ActivationDiagnosis]
    num_steps: int
    rate_accuracy: float | None
    """Of the rate network, None without labels."""
    accuracy: np.ndarray | None
    """[T], deciding on the output at each step."""
    mean_accuracy: np.ndarray | None
    """[T], deciding on the mean of the outputs up to each step."""

    @property
    def worst(self) -> str:
        """The activation whose spikes alone disturb the output most."""
        return max(self.activations, key=lambda row: row.output_error).name

    @property
    def spikes(self) -> float:
        """Mean number of spikes for one input, in the whole network."""
        return sum(row.spikes for row in self.activations)

    def __str__(self) -> str:
        head = (
            "name",
            "rel. error",
            "cosine",
            "silent pairs",
            "saturated pairs",
            "rate/Hz",
            "spikes",
            "output error alone",
        )
        lines = [
            (
                row.name, f"{row.relative_error:.4f}", f"{row.cosine_similarity:.4f}", f"{row.silent:.1%}",
                f"{row.saturated:.1%}", f"{row.rate:.2f}", f"{row.spikes:.0f}", f"{row.output_error:.4f}",
            )
            for row in self.activations
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (head, *lines)]
        table.append(f"{self.spikes:.0f} spikes for one input in {self.num_steps} steps; {self.worst} loses most")
        if self.accuracy is not None and self.mean_accuracy is not None:
            table.append(
                f"accuracy: rate network {self.rate_accuracy:.2%}, last step {self.accuracy[-1]:.2%}, "
                f"mean over all {self.num_steps} steps {self.mean_accuracy[-1]:.2%}"
            )
        return "\n".join(table)


@checked
def diagnose(
    network: Converted,
    data: Array | np.ndarray,
    labels: Array | np.ndarray | None = None,
    *,
    num_steps: int,
    dt: float | None = None,
    batch_size: int = 50,
) -> Diagnosis:
    """Compare a converted network with its rate network, on static inputs.

    Args:
        network: what `jsnn.convert` made.
        data: inputs `[N, ...]`, normalised as the network expects.
        labels: their classes `[N]`, for accuracies; the network's output is then `[T, B, classes]`.
        num_steps: how long the network runs.
        dt: the length of a step in s, for firing rates in Hz; None takes the network's.
        batch_size: how many inputs at a time.

    Raises:
        ValueError: if there are no data, or not as many labels, `batch_size` is below 1, or `dt` is not that of the
            network's neurons.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> network = jsnn.convert(jax.nn.relu, jnp.ones((1, 2)), dt=0.1)
        >>> found = diagnose(network, jnp.array([[5.0, -1.0]]), num_steps=10)
        >>> found.activations[0].spikes, found.activations[0].rate, found.activations[0].silent
        (5.0, 2.5, 0.5)
    """
    if isinstance(data, jax.core.Tracer):
        raise TypeError("data must be known to be measured, got a traced array: call diagnose outside of jit")
    if not np.shape(data) or len(data) == 0 or (labels is not None and np.shape(labels)[:1] != (len(data),)):
        raise ValueError(
            f"diagnose needs data [N, ...] and as many labels, got inputs of shape {np.shape(data)} and "
            f"{'no labels' if labels is None else f'labels of shape {np.shape(labels)}'}"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    own = float(np.mean(network.dt))
    if dt is not None and parts_with_dt(network) and not np.isclose(dt, own, rtol=1e-6):
        raise ValueError(f"dt = {dt} is not the dt = {own:g} of the network's neurons and filters: leave it out")
    check_memory("the outputs of all steps", (num_steps, min(batch_size, len(data))))
    totals = [_Totals() for _ in network.names]
    correct, mean_correct, rate_correct = np.zeros(num_steps), np.zeros(num_steps), 0.0
    measure = jax.jit(_measure, static_argnums=2)
    for start in range(0, len(data), batch_size):
        part = slice(start, start + batch_size)
        rates, rate_output, response, alone = measure(network, jnp.asarray(data[part]), num_steps)
        for total, name in zip(totals, network.names):
            total.add(rates[name], response.means[name], response.spikes[name], alone[name], num_steps)
        if labels is not None:
            outputs, classes = response.outputs, jnp.asarray(labels[part])
            correct += np.asarray(is_correct(outputs, classes)).sum(1)
            mean_correct += np.asarray(is_correct(jnp.cumsum(outputs, axis=0), classes)).sum(1)
            rate_correct += float(is_correct(rate_output, classes).sum())
    count = len(data)
    rows = [total.row(name, count, num_steps, own if dt is None else dt) for total, name in zip(totals, network.names)]
    if labels is None:
        return Diagnosis(rows, num_steps, None, None, None)
    return Diagnosis(rows, num_steps, rate_correct / count, correct / count, mean_correct / count)


class _Count(NamedTuple):
    """The state of `_Counting`."""

    neuron: State
    total: Array  # the sum of the outputs, [B, ...]
    spikes: Array  # the number of spikes, [B, ...]
    steps: Array  # how many steps that took, []


@nnx.dataclass
class _Counting(FrozenPytree):
    """A neuron whose state also counts what it puts out."""

    neuron: Scaled

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> _Count:
        state, current = self.neuron.init(shape, dtype), jax.ShapeDtypeStruct(shape, dtype)
        outputs = jax.eval_shape(self.neuron.step, state, current)[1]
        nothing = jnp.zeros(outputs.shape, wide(outputs.dtype))
        return _Count(state, nothing, nothing, jnp.zeros((), jnp.int32))

    def step(self, state: _Count, current: Array) -> tuple[_Count, Array]:
        inner, outputs = self.neuron.step(state.neuron, current)
        spikes = jnp.abs(outputs).astype(state.spikes.dtype) / jnp.asarray(self.neuron.spike_size, state.spikes.dtype)
        return _Count(inner, state.total + outputs, state.spikes + spikes, state.steps + 1), outputs


class _Totals:
    """Sums over batches for one activation."""

    def __init__(self) -> None:
        self.sums = np.zeros(9)

    def add(self, rate: Array, mean: Array, spikes: Array, alone: Array, num_steps: int) -> None:
        a, b, n = (np.asarray(x, np.float64) for x in (rate, mean, spikes))
        self.sums += [
            ((b - a) ** 2).sum(), (a**2).sum(), (b**2).sum(), (a * b).sum(), (n < 0.5).sum(),
            (n > num_steps - 0.5).sum(), n.sum(), n.size, float(alone) * len(a),
        ]  # fmt: skip

    def row(self, name: str, count: int, num_steps: int, dt: float) -> ActivationDiagnosis:
        error, rates, means, product, silent, saturated, spikes, size, alone = self.sums
        return ActivationDiagnosis(
            name,
            relative_error=float(np.sqrt(error / rates)) if rates else float(error > 0),
            cosine_similarity=float(product / np.sqrt(rates * means)) if rates * means else 0.0,
            silent=float(silent / size),
            saturated=float(saturated / size),
            rate=float(spikes / size / num_steps / dt),
            spikes=float(spikes / count),
            output_error=float(alone / count),
        )


def _measure(
    network: Converted, inputs: Array, num_steps: int
) -> tuple[dict[str, Array], Array, Response, dict[str, Array]]:
    rates, output = network.rates(inputs)
    alone = {}
    for index, name in enumerate(network.names):
        neurons = [
            neuron if other == index else Scaled(Rate(activation))
            for other, (neuron, activation) in enumerate(zip(network.neurons, network.activations))
        ]
        only = replace(network, neurons=neurons, synapses=[None] * len(neurons))
        mean = unroll(only, inputs, num_steps=num_steps)[1].mean(0)
        alone[name] = jnp.linalg.norm(mean - output) / jnp.maximum(jnp.linalg.norm(output), 1e-12)
    return rates, output, respond(network, inputs, num_steps), alone
