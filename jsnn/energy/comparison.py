"""A spiking network beside its rate twin, by the metrics of NeuroBench.

Source: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 2025, section "Algorithm track metrics".
"""

import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked
from jsnn.conversion import Converted
from jsnn.energy.devices import DEVICES, Device, find, joules
from jsnn.energy.operations import Operations, count, watch_neurons
from jsnn.files import as_path
from jsnn.neurons import LI, CuBaLI
from jsnn.types import Array, Neuron, State
from jsnn.unrolling import prepare

_READOUTS = (LI, CuBaLI)


class Complexity(NamedTuple):
    """What one inference of a network takes, a mean over the inputs."""

    name: str
    operations: Operations
    activation_sparsity: float
    """Share of zeros among the outputs of all neurons, at all steps; nan if none are known."""
    footprint: int
    """Bytes of all parameters that the network holds, and of the neurons' states for one input."""
    is_spiking: bool

    @property
    def dense(self) -> int:
        """Synaptic operations, zeros included, those with the padding of a convolution not."""
        return self.operations.dense

    @property
    def effective_macs(self) -> float:
        """Multiply-accumulates in which neither the weight nor the input is 0."""
        return self.operations.effective_macs

    @property
    def effective_acs(self) -> float:
        """Accumulates in which neither the weight nor the input, a spike, is 0."""
        return self.operations.effective_acs

    @property
    def connection_sparsity(self) -> float:
        """The share of zeros among all weights."""
        return self.operations.connection_sparsity

    def joules(self, device: str | Device) -> float | None:
        """Return what one inference costs, in J; None for a rate network on a device that runs spikes.

        A device that is not made for spikes steps through a spiking network: it pays for all connections of every
        pass, and for all neurons at every step.

        Raises:
            ValueError: if there is no such device, or its energies are not numbers >= 0.
            TypeError: if `device` is not a `Device` or the name of one.
        """
        device, operations = find(device), self.operations
        if device.spiking == self.is_spiking:
            return joules(operations, device)
        if device.spiking:
            return None
        passes = sum(row.connections * row.steps for row in operations.synapses)
        return passes * device.synaptic + operations.neurons * operations.steps * device.neuronal

    def values(self, devices: Iterable[Device] = DEVICES.values()) -> dict[str, float | None]:
        """Return the metrics by name, joules after `"joules_"` and the device's name."""
        metrics: dict[str, float | None] = {
            "neurons": self.operations.neurons,
            "steps": self.operations.steps,
            "dense": self.dense,
            "effective_macs": self.effective_macs,
            "effective_acs": self.effective_acs,
            "activation_sparsity": None if math.isnan(self.activation_sparsity) else self.activation_sparsity,
            "connection_sparsity": self.connection_sparsity,
            "footprint_bytes": self.footprint,
        }
        return metrics | {f"joules_{device.name}": self.joules(device) for device in map(find, devices)}


class Comparison(NamedTuple):
    """Networks beside each other; printed, a table."""

    networks: list[Complexity]
    devices: tuple[Device, ...] = tuple(DEVICES.values())

    def joules(self) -> dict[str, dict[str, float | None]]:
        """Return J by device for each network; None where a device cannot run it. `jsnn.plot.energy` draws them."""
        return {one.name: {device.name: one.joules(device) for device in self.devices} for one in self.networks}

    def table(self) -> str:
        """Return a line for each metric, a column for each network, as plain text."""
        columns = [one.values(self.devices) for one in self.networks]
        lines = [("", *(one.name for one in self.networks))]
        lines += [(name, *(_text(name, column[name]) for column in columns)) for name in columns[0]]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(x.rjust(width) for x, width in zip(line[1:], widths[1:]))]).rstrip()
            for line in lines
        )

    def csv(self) -> str:
        """Return a line for each network, a column for each metric; what is not known stays empty."""
        rows = [{"network": one.name} | one.values(self.devices) for one in self.networks]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    @checked
    def to_csv(self, path: Path | str) -> None:
        """Write `csv` to a file.

        Raises:
            OSError: if the file cannot be written.
            TypeError: if `path` is not a path.
        """
        as_path(path).write_text(self.csv(), encoding="utf-8")

    def __str__(self) -> str:
        return self.table()


@checked
def compare(
    network: Neuron | Callable[[Array], Array],
    inputs: Array,
    *,
    num_steps: int | None = None,
    devices: Iterable[Device] = (),
) -> Comparison:
    r"""Count what a spiking network and its rate twin do for an inference, as a mean over a batch.

    The twin of a converted network is the rate network it was made from. Of any other network it is the same layers,
    run once, each input of a weight some number that is not 0: what is not known without training it is taken at its
    most. A function without memory is a rate network already, and stands alone.

    Effective operations are those in which neither the weight nor the input is 0. They are accumulates (AC) where the
    inputs of the weights are spikes: 0 and 1 or -1, or what comes from neurons and has one size, whatever that is.
    Elsewhere they are multiply-accumulates (MAC). Biases, pooling and normalisation do not count. Unlike NeuroBench's
    harness, what a static input passes before the first neuron counts once, and the outputs of a readout (`LI`,
    `CuBaLI`) and of filters are not activations.

    Args:
        network: any Neuron; or a function without memory.
        inputs: `[T, B, ...]`; or `[B, ...]` with `num_steps`, or for a function.
        num_steps: the number of steps T of a static input.
        devices: a list of your own, for the joules; beside those of `DEVICES`, or in the place of one of the same name.

    Raises:
        TypeError: if `network` is neither a Neuron nor a function, or `devices` holds something else.
        ValueError: as `count`, or if the energies of a device are not numbers >= 0.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> spikes = jnp.zeros((10, 1, 4)).at[2, 0, 1].set(1.0)  # one spike in 10 steps
        >>> spiking, rate = jsnn.energy.compare(jsnn.Sequential(layer, jsnn.LIF(0.9)), spikes).networks
        >>> spiking.dense, spiking.effective_acs, rate.effective_macs
        (120, 3.0, 12)
    """
    if isinstance(devices, str | Device):
        raise TypeError(f"devices must be a list, got {devices!r} alone: put it into one, devices=[...]")
    everywhere = tuple((DEVICES | {device.name: device for device in map(find, devices)}).values())
    operations = count(network, inputs, num_steps=num_steps)
    if not isinstance(network, Neuron):
        return Comparison([Complexity("rate", operations, math.nan, _size(network), is_spiking=False)], everywhere)
    inputs, state = prepare(network, inputs, None, num_steps)
    of_states = _size(prepare(network, inputs[:1] if num_steps is not None else inputs[:, :1], None, num_steps)[1])
    parameters = _size(network)
    sparsity = _activation_sparsity(network, state, inputs, num_steps)
    spiking = Complexity("spiking", operations, sparsity, parameters + of_states, is_spiking=True)
    if isinstance(network, Converted):
        static = inputs if num_steps is not None else inputs.reshape(-1, *inputs.shape[2:])
        of_rates = count(lambda x: network.rates(x)[1], static)
        zeros = _share([_zeros(x) for x in jax.jit(lambda x: network.rates(x)[0])(static).values()])
        parameters = _size(network.weights)
    else:
        of_rates, zeros = _once(operations), math.nan if math.isnan(sparsity) else 0.0
    of_rates = of_rates._replace(neurons=operations.neurons)
    return Comparison([spiking, Complexity("rate twin", of_rates, zeros, parameters, is_spiking=False)], everywhere)


def _once(operations: Operations) -> Operations:
    """Return the same connections, each used once for a multiply-accumulate."""
    synapses = [
        row._replace(steps=1, effective=row.wired, mean_input=math.nan, accumulates=False, nonzero_inputs=1.0)
        for row in operations.synapses
    ]
    return operations._replace(synapses=synapses, steps=1)


def _activation_sparsity(network: Neuron, state: State, inputs: Array, num_steps: int | None) -> float:
    @jax.jit
    def look(state: State, inputs: Array) -> list[tuple[Array, Array]]:
        found: list[tuple[Array, Array]] = []

        def add(neuron: Neuron, outputs: Any) -> None:
            if not isinstance(neuron, _READOUTS):
                found.extend(map(_zeros, jax.tree.leaves(outputs)))

        watch_neurons(network, state, inputs, num_steps, add)
        return found

    return _share(look(state, inputs))


def _zeros(x: Array) -> tuple[Array, Array]:
    """Return zeros and values by the first axis, so that no sum grows too large to be exact."""
    return jnp.sum(x.reshape(len(x), -1) == 0, 1), jnp.full(len(x), x[0].size)


def _share(counts: list[tuple[Array, Array]]) -> float:
    zeros, total = (sum(int(np.asarray(pair[side]).sum(dtype=np.int64)) for pair in counts) for side in (0, 1))
    return zeros / total if total else math.nan


def _size(tree: Any) -> int:
    """Return the bytes of the numbers in a tree, each array once; random keys left out."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, nnx.Variable))
    leaves = [leaf for node in nodes if not isinstance(node, nnx.RngState) for leaf in jax.tree.leaves(node)]
    arrays = {
        id(leaf): leaf
        for leaf in leaves
        if isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
        and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    }
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in arrays.values())


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.startswith("joules"):
        return f"{value:.3g}"
    return f"{value:.1%}" if name.endswith("sparsity") else f"{value:,.0f}"
