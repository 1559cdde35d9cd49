"""Where the arrays of a training run lie on several devices; what they then exchange is XLA's to find.

    layout = Layout.over(batch_size=64)                   # every device that JAX sees
    state = layout.place(state)                           # the weights on each device, or split over some
    advance = layout.hold(train.make_advance(graph, layout.share_out(loss), optimizer), state)
    state, metrics = advance(state, layout.examples(images), layout.examples(labels), indices, key)

Nothing is computed otherwise than on one device: a batch is what it was, and so is every random number, as both are
counted in the whole batch. What differs is the order in which sums over the batch are taken, and so their rounding.

Source: Xu et al., "GSPMD: general and scalable parallelization for ML computation graphs", 2021, arXiv:2105.04663.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jsnn.arguments import checked
from jsnn.neurons.pytree import as_data
from jsnn.recording import Keep, LayerRecord, record
from jsnn.train.steps import Loss
from jsnn.types import Array, Inputs, Neuron, State
from jsnn.unrolling import Method, explaining, of_step, prepare

_DATA, _MODEL = "data", "model"
_WIDE = 512  # a narrower layer takes less time than what its parts would have to exchange
_CURE = "ask for fewer, or let one CPU play several: JAX_NUM_CPU_DEVICES=8 in the environment, before JAX starts"

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where arrays lie: on one device, as JAX has it anyway (`mesh` None), or on a mesh with axes "data" and "model".

    The examples of each batch are shared out over "data". Over "model" go the kernels, biases and delays of dense and
    convolutional layers of at least 512 neurons, split by neuron, and all that an optimiser keeps for them; other
    weights are on every device.
    """

    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        if self.mesh is not None and (not isinstance(self.mesh, Mesh) or self.mesh.axis_names != (_DATA, _MODEL)):
            raise TypeError(f"mesh must be a mesh with the axes 'data' and 'model', got {self.mesh!r}: use Layout.over")

    @classmethod
    @checked
    def over(cls, batch_size: int, data: int | None = None, model: int = 1) -> "Layout":
        """Return the layout for batches of a size, over so many devices as asked for, the same number in each process.

        Args:
            batch_size: examples in an optimiser step, of all devices together.
            data: parts of a batch; None for as many as there are devices for, as far as they divide it.
            model: parts of a wide layer.

        Raises:
            TypeError: if something is not an integer.
            ValueError: if a number is below 1, there are fewer devices than `data` x `model`, or `batch_size` cannot be
                shared out equally.

        Examples:
            >>> Layout.over(batch_size=64, data=1)
            Layout(mesh=None)
        """
        total, processes = len(jax.devices()), jax.process_count()
        if min(batch_size, model, 1 if data is None else data) < 1:
            raise ValueError(f"batch_size, data and model must be >= 1, got {batch_size}, {data} and {model}")
        if data is None:
            fitting = [n for n in range(1, total // model + 1) if batch_size % n == 0 and n * model % processes == 0]
            data = max(fitting, default=processes)
        if data * model > total:
            raise ValueError(
                f"data x model must be <= the {total} devices that JAX sees, got {data} x {model}: {_CURE}"
            )
        if batch_size % data:
            largest = max(n for n in range(1, data) if batch_size % n == 0)
            raise ValueError(f"data must divide batch_size {batch_size}, got {data}: the next smaller is {largest}")
        if data * model % processes:
            raise ValueError(f"data x model must be a multiple of the {processes} processes, got {data} x {model}")
        if data * model == 1:
            return cls()
        each = data * model // processes
        devices = [device for index in range(processes) for device in jax.local_devices(index)[:each]]
        return cls(jax.make_mesh((data, model), (_DATA, _MODEL), (AxisType.Auto,) * 2, devices=devices))

    @property
    def size(self) -> int:
        """The number of devices."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def parts(self) -> int:
        """In how many parts the examples of a data set are held: one for each share of a batch."""
        return 1 if self.mesh is None else self.mesh.shape[_DATA]

    def place(self, state: Tree) -> Tree:
        """Return the state of a training run, or any pytree of arrays, where it is to lie.

        Raises:
            ValueError: if layers are to be split, and none is wide enough.
        """
        if self.mesh is None:
            return state
        lie = jax.tree_util.tree_map_with_path(self._sharding, state)
        if self.mesh.shape[_MODEL] > 1 and all(one.is_fully_replicated for one in jax.tree.leaves(lie)):
            raise ValueError(
                f"model must be 1 where no layer has {_WIDE} neurons or more, in a number divisible by it, "
                f"got {self.mesh.shape[_MODEL]}"
            )
        return _moved(state, lie)

    def _sharding(self, path: tuple[Any, ...], leaf: Array) -> NamedSharding:
        assert self.mesh is not None
        wide = leaf.ndim > 0 and leaf.shape[-1] >= _WIDE and leaf.shape[-1] % self.mesh.shape[_MODEL] == 0
        of_layer = any(getattr(key, "key", None) in ("kernel", "delay", "bias") for key in path)
        spec = [None] * (leaf.ndim - 1) + [_MODEL] if wide and of_layer else []
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def share_out(self, loss: Loss) -> Loss:
        """Return the loss with its batch shared out; also a batch that the devices do not divide."""
        if self.mesh is None:
            return loss
        rows = NamedSharding(self.mesh, PartitionSpec(_DATA))

        def shared(network: Any, images: Array, labels: Array, key: Array) -> Any:
            images, labels = jax.lax.with_sharding_constraint((images, labels), rows)
            return loss(network, images, labels, key)

        return shared

    def record(
        self,
        network: Neuron,
        inputs: Inputs,
        state: State = None,
        *,
        num_steps: int | None = None,
        keep: Keep = None,
        method: Method = "auto",
    ) -> dict[str, LayerRecord]:
        """Return what `jsnn.record` does, each device running its part of the batch by itself.

        XLA left alone exchanges all spikes between two layers, as it cannot share out [T*B, ...] by B. It is left alone
        with neurons that draw a number for every example at each step, with dropout, with batch normalisation in
        training, and with plastic weights that a batch shares: to draw the right numbers, and to take means of the
        whole batch, they need to see all of it; and with inputs that have no batch axis.
        """
        if self.parts == 1:
            return record(network, inputs, state, num_steps=num_steps, keep=keep, method=method)
        inputs, state = prepare(network, inputs, state, num_steps)
        if _is_in_training(network) or not _is_of_examples(network, state, of_step(inputs, num_steps)):
            return record(network, inputs, state, num_steps=num_steps, keep=keep, method=method)
        axis = 1 if num_steps is None else 0
        count = jax.tree.leaves(inputs)[0].shape[axis]
        missing = -count % self.parts

        def filled(tree: Tree, axis: int) -> Tree:
            widths = [(0, 0)] * axis + [(0, missing)]
            return jax.tree.map(lambda x: jnp.pad(x, widths + [(0, 0)] * (x.ndim - axis - 1), mode="edge"), tree)

        names: list[str] = []

        def part(networks: Any, inputs: Inputs, state: State) -> dict[str, LayerRecord]:
            layers = record(networks[0], inputs, state, num_steps=num_steps, keep=keep, method=method)
            names.extend(layers)
            return layers

        run = jax.shard_map(
            part,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(*[None] * axis, _DATA), PartitionSpec(_DATA)),
            out_specs=PartitionSpec(None, _DATA),
            axis_names={_DATA},
            check_vma=False,
        )
        # in a list, a neuron of a class that JAX does not know stays as it is; outside of jit no axis is XLA's to find
        with explaining(network, state, inputs, num_steps):
            layers = jax.jit(run)(nnx.List([as_data(network)]), filled(inputs, axis), filled(state, 0))
        return {name: jax.tree.map(lambda leaf: leaf[:, :count], layers[name]) for name in dict.fromkeys(names)}

    def hold(self, advance: Callable[..., tuple[Tree, Any]], state: Tree) -> Callable[..., tuple[Tree, Any]]:
        """Return what `jsnn.train.make_advance` made, with a new state that lies where this one does."""
        if self.mesh is None:
            return advance
        lie = jax.tree.map(lambda leaf: leaf.sharding, state)
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(advance, donate_argnums=0, out_shardings=(lie, everywhere))

    def gather(self, state: Tree) -> Tree:
        """Return what `place` has spread, whole on one device of each process; all of them ask for it, or none."""
        if self.mesh is None:
            return state
        whole = _moved(state, NamedSharding(self.mesh, PartitionSpec()))
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)

    def everywhere(self, array: np.ndarray) -> Array:
        """Return an array that every process has, on every device."""
        if self.mesh is None:
            return jnp.asarray(array)
        return jax.make_array_from_callback(
            array.shape, NamedSharding(self.mesh, PartitionSpec()), lambda index: array[index]
        )

    def examples(self, array: np.ndarray, rows: np.ndarray | None = None) -> Array:
        """Return rows of an array [N, ...], cut into `parts` of equal length; a process reads those of its devices.

        Up to `parts - 1` rows are added at the end, which no index means. All rows (`rows` None) are held whole by
        each device of a single process, and then need not be exchanged.
        """
        if self.mesh is None:
            return jnp.asarray(array if rows is None else array[rows])
        if rows is None and jax.process_count() == 1:
            return self.everywhere(array)
        rows = np.arange(len(array)) if rows is None else rows
        rows = np.pad(rows, (0, -len(rows) % self.parts), mode="edge")
        sharding = NamedSharding(self.mesh, PartitionSpec(_DATA))

        def read(index: Any) -> np.ndarray:
            return array[rows[index[0]]]

        return jax.make_array_from_callback((len(rows), *array.shape[1:]), sharding, read)

    def __str__(self) -> str:
        total = len(jax.devices())
        if self.mesh is None:
            return f"1 of {total} devices"
        data, model = self.mesh.shape[_DATA], self.mesh.shape[_MODEL]
        split = f", layers of {_WIDE} neurons or more in {model}" if model > 1 else ""
        return f"{self.size} of {total} devices: each batch in {data} parts{split}"


def _moved(tree: Tree, lie: Any) -> Tree:
    """Return a pytree elsewhere; `jax.device_put` moves no random keys to devices of other processes."""
    return jax.jit(lambda tree: tree, out_shardings=lie)(tree)


def _is_of_examples(network: Neuron, state: State, x: Any) -> bool:
    """Return whether all in a state is of one example each: no random key, no weights of a whole batch."""
    if any(x.ndim < 2 for x in jax.tree.leaves(x)):
        return False
    try:
        more = jax.eval_shape(lambda: network.init(jax.tree.map(lambda x: (x.shape[0] + 1, *x.shape[1:]), x)))
    except Exception:  # it takes batches of one size alone
        return False
    return all(one.shape != other.shape for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(more)))


def _is_in_training(network: Any) -> bool:
    """Return whether a network has batch normalisation in training mode, or draws random numbers, as dropout does."""
    parts = dict(nnx.iter_graph(network)) if isinstance(network, nnx.Module) else {}
    idle = [path for path, part in parts.items() if isinstance(part, nnx.Dropout) and part.deterministic]
    return any(
        (isinstance(part, nnx.BatchNorm) and not part.use_running_average)
        or (isinstance(part, nnx.RngStream) and not any(path[: len(other)] == other for other in idle))
        for path, part in parts.items()
    )
