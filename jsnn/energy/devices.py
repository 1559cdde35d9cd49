"""Devices, and what the operations of a network might cost on them.

Source: KerasSpiking's `ModelEnergy`, for the devices and for how their energy is put together.
"""

import difflib
import math
from typing import NamedTuple

from jsnn.arguments import check
from jsnn.energy.operations import Operations


class Device(NamedTuple):
    """What a device spends."""

    name: str
    synaptic: float
    """J for a synaptic operation."""
    neuronal: float
    """J for the update of a neuron."""
    spiking: bool
    """Spends on spikes and over time steps; another computes the rate network, once."""


DEVICES = {
    device.name: device
    for device in (
        Device("cpu", 8.6e-9, 8.6e-9, spiking=False),  # Intel i7-4960X
        Device("gpu", 0.3e-9, 0.3e-9, spiking=False),  # Nvidia GTX Titan Black
        Device("arm", 0.9e-9, 0.9e-9, spiking=False),  # ARM Cortex-A
        Device("loihi", 27.1e-12, 81e-12, spiking=True),
        Device("spinnaker", 13.3e-9, 26e-9, spiking=True),
        Device("spinnaker2", 450e-12, 2.19e-9, spiking=True),
    )
}
"""The devices of KerasSpiking's `ModelEnergy`, by name."""


def joules(operations: Operations, device: str | Device) -> float:
    """Return what the operations of one inference cost, in J.

    A spiking device pays for effective operations, and for the update of each neuron at each step. Another pays for one
    dense pass: it would run the rate network. The joules of KerasSpiking itself, which takes mean inputs for rates, are
    those of `jsnn.compat.keras_spiking.operations`.

    Args:
        operations: what `count` has counted.
        device: one of `DEVICES`, by name, or one of your own.

    Raises:
        ValueError: if there is no such device, or its energies are not numbers >= 0.
        TypeError: if `device` is neither, or its energies are not numbers.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> operations = jsnn.energy.count(network, jnp.ones((10, 1, 4)))  # 120 operations, 30 updates
        >>> joules(operations, Device("mine", synaptic=2e-12, neuronal=1e-12, spiking=True))
        2.7e-10
    """
    device = find(device)
    if not isinstance(operations, Operations):
        raise TypeError(f"operations must be what jsnn.energy.count returns, got {type(operations).__name__}")
    if device.spiking:
        synaptic, updates = operations.effective_macs + operations.effective_acs, operations.neurons * operations.steps
    else:
        synaptic, updates = float(sum(row.connections for row in operations.synapses)), operations.neurons
    return synaptic * device.synaptic + updates * device.neuronal


def find(device: str | Device) -> Device:
    """Return a device by its name, checked."""
    if isinstance(device, str):
        if device not in DEVICES:
            near = difflib.get_close_matches(device, DEVICES, 1, 0.0)
            raise ValueError(f"there is no device {device!r}, did you mean {near[0]!r}? There are {', '.join(DEVICES)}")
        return DEVICES[device]
    if not isinstance(device, Device):
        raise TypeError(f"device must be the name of one, or a jsnn.energy.Device, got {device!r}")
    for field, kind in (("name", str), ("synaptic", float), ("neuronal", float), ("spiking", bool)):
        check(f"{field} of the device {device.name!r}", getattr(device, field), (kind,))
    for field, cost in (("synaptic", device.synaptic), ("neuronal", device.neuronal)):
        if not 0 <= cost < math.inf:
            raise ValueError(f"{field} of the device {device.name!r} must be finite and >= 0 J, got {cost}")
    return device
