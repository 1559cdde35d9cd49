"""Devices, and what the operations of a network might cost on them.

Source: KerasSpiking's `ModelEnergy`, for the devices and for how their energy is put together.
"""

import difflib
from typing import NamedTuple

from jsnn.energy.operations import Operations


class Device(NamedTuple):
    """What a device spends."""

    name: str
    synaptic: float  # J for a synaptic operation
    neuronal: float  # J for the update of a neuron
    spiking: bool  # spends on spikes and over time steps; another computes the rate network, once


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
"""The devices that KerasSpiking's `ModelEnergy` knows, by name."""


def joules(operations: Operations, device: str | Device) -> float:
    """What the operations of one inference cost, in J.

    A spiking device pays for effective operations, and for the update of each neuron at each step. Another pays for one
    dense pass: it would run the rate network.

    Raises:
        ValueError: if there is no such device.
    """
    if isinstance(device, str):
        if device not in DEVICES:
            near = difflib.get_close_matches(device, DEVICES, 1, 0.0)
            raise ValueError(f"there is no device {device!r}, did you mean {near[0]!r}? There are {', '.join(DEVICES)}")
        device = DEVICES[device]
    if device.spiking:
        synaptic, updates = operations.effective_macs + operations.effective_acs, operations.neurons * operations.steps
    else:
        synaptic, updates = float(sum(row.connections for row in operations.synapses)), operations.neurons
    return synaptic * device.synaptic + updates * device.neuronal
