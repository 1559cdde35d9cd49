"""Firing-rate scales: given by hand, or taken from data."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import checked
from jsnn.conversion.activations import name_of
from jsnn.conversion.network import Converted, replace
from jsnn.conversion.place import check_scale, what_cannot_be_scaled
from jsnn.types import Array, Parameter

Scales: TypeAlias = float | Sequence[Parameter | None] | Mapping[str, Parameter | None] | Literal["auto"] | None


def rescale(network: Converted, scales: Sequence[Parameter | None]) -> Converted:
    """Return the network with other firing-rate scales, one for each activation.

    None leaves that of an activation as it is.

    Raises:
        ValueError: if their number is wrong, one is not positive, or its activation is not homogeneous.
    """
    if len(scales) != len(network.names):
        raise ValueError(
            f"scale_firing_rates must be one number, or {len(network.names)} of them, one for each of "
            f"{', '.join(network.names)}; got {len(scales)}"
        )
    neurons = []
    for name, activation, neuron, scale in zip(network.names, network.kinds, network.neurons, scales):
        if scale is not None:
            check_scale(f"the scale of {name}", scale)
            culprit = what_cannot_be_scaled(activation, neuron.neuron)
            if culprit and not (isinstance(scale, (int, float)) and scale == 1):
                raise ValueError(
                    f"{name} cannot be scaled by {scale}: a {culprit} of a times x is not a times that of "
                    f"x, so that scaling would change what the network computes. Leave its scale None"
                )
            neuron = dataclasses.replace(neuron, scale=scale)
        neurons.append(neuron)
    return replace(network, neurons=neurons)


@checked
def balance(
    network: Converted,
    data: Array,
    percentile: float = 99.9,
    *,
    spikes_per_step: float = 1.0,
    per_channel: bool = False,
) -> Converted:
    """Return the network with scales at which a percentile of each activation spikes so often at each step.

    Activations that are not positively homogeneous keep their scale, as do those whose neurons are not.

    Raises:
        ValueError: if there are no data, or they make an activation infinite or NaN.
    """
    if isinstance(data, jax.core.Tracer):
        raise TypeError(
            "the calibration data must have values, got a traced array: call convert(scale_firing_rates='auto') and "
            "calibrate outside jax.jit, and pass in the network"
        )
    if not np.size(data):
        raise ValueError(f"there must be calibration data, got an array of shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError("the calibration data must be finite, got infinite or NaN values: check them")
    rates, _ = network.rates(data, with_gain=True)
    scales: list[Parameter | None] = []
    for name, activation, neuron in zip(network.names, network.kinds, network.neurons):
        values = np.asarray(rates[name] / neuron.gain, np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"the calibration data make {name} infinite or NaN: check them and the weights")
        if what_cannot_be_scaled(activation, neuron.neuron):
            scales.append(None)
            continue
        top = _top(values, percentile, per_channel)
        scales.append(jnp.asarray(neuron.drive * spikes_per_step / top, jnp.float32))
    return rescale(network, scales)


def _top(values: np.ndarray, percentile: float, per_channel: bool) -> np.ndarray:
    """Return the percentile, of each channel or of all; where that is 0, the largest value, or 1."""
    whole = next((top for top in (np.percentile(values, percentile), values.max()) if top > 0), 1.0)
    if not per_channel or values.ndim < 2:
        return np.asarray(whole)
    channels = np.percentile(values.reshape(-1, values.shape[-1]), percentile, axis=0)
    return np.where(channels > 0, channels, whole)


def scaled(network: Converted, scales: Scales, example: Array) -> Converted:
    """Return the network with what `convert` takes for `scale_firing_rates`."""
    if scales is None:
        return network
    if isinstance(scales, str) and scales != "auto":
        raise ValueError(f"scale_firing_rates must be a number, one for each activation, or 'auto', got {scales!r}")
    if isinstance(scales, Mapping):
        unknown = [name for name in scales if name not in network.names]
        if unknown:
            raise ValueError(
                f"scale_firing_rates has no activation {unknown[0]!r} to scale: the report's names are "
                f"{', '.join(network.names)}"
            )
        return rescale(network, [scales.get(name) for name in network.names])
    if not isinstance(scales, str) and (isinstance(scales, Sequence) or np.ndim(scales)):
        return rescale(network, list(scales))  # type: ignore[arg-type]
    if scales != "auto":
        check_scale("scale_firing_rates", scales)
    culprits = [what_cannot_be_scaled(*pair) for pair in zip(network.kinds, (n.neuron for n in network.neurons))]
    scalable = [culprit is None for culprit in culprits]
    left = [
        name if culprit == name_of(kind) else f"{name}, for its {culprit}"
        for name, kind, culprit in zip(network.names, network.kinds, culprits)
        if culprit and culprit != "SpikingMaxPool"
    ]
    if scales != 1 and not any(scalable):
        raise ValueError(
            f"scale_firing_rates={scales} would change what the network computes: none of its activations "
            f"({'; '.join(left)}) is positively homogeneous, as relu is. Leave it None"
        )
    if scales != 1 and left:
        warnings.warn(
            f"scale_firing_rates={scales} leaves out {'; '.join(left)}: not positively homogeneous", stacklevel=4
        )
    if scales == "auto":
        return balance(network, example)
    return rescale(network, [float(scales) if can else None for can in scalable])
