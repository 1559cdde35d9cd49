"""The parameters of neurons, in NIR's units and in ours.

NIR's neurons are differential equations in seconds, ours the steps that solve them. Over a step of dt a membrane goes
the share `a` of its way to where its input pulls it, and with

    tau v' = (v_leak - v) + r x            becomes            v = v_leak + (1 - a) (v - v_leak) + r a x

where a = dt / tau ("euler") or a = 1 - exp(-dt / tau) ("exact", for an input that is constant over the step). So
decay = 1 - a and gain = r a. Without a leak, v' = r x, the gain is r dt. A synaptic current is such a membrane with
w_in for r; its factor w_in a is taken into the gain of the membrane after it, because ours jumps by its input.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.conversion.place import Scaled
from jsnn.filters import Lowpass
from jsnn.neurons import IF, LI, LIF, BurstIF, CuBaLI, CuBaLIF, ParametricLIF, SpikingActivation, eventprop
from jsnn.neurons.base import Discretization, SpikingNeuron
from jsnn.neurons.checks import is_key, is_step
from jsnn.neurons.spiking_activation import RateCoded
from jsnn.nir.library import NIRError
from jsnn.types import Neuron, Parameter

_FAR_BELOW = 1e-3  # a share of the threshold
METADATA = "jsnn"  # under which a node keeps what NIR has no word for
RATE_CODED: dict[str, Any] = {"SpikingActivation": SpikingActivation, "BurstIF": BurstIF}


class Description(NamedTuple):
    """A neuron in NIR's words."""

    kind: str
    """The name of the node's class."""
    parameters: dict[str, np.ndarray]
    """Float64, not yet of one shape."""
    metadata: dict[str, Any] = {}  # noqa: RUF012
    """What only jsnn reads: how it resets, if not to a value."""


# Ours to NIR's


def describe(neuron: Any, dt: float, discretization: Discretization) -> Description:
    """Return what NIR calls a neuron, simulated in steps of `dt`.

    Raises:
        NIRError: if NIR has no word for it.
    """
    if isinstance(neuron, Scaled):
        description = describe(neuron.neuron, dt, discretization)
        gain = "w_in" if "w_in" in description.parameters else "r"
        parameters = {**description.parameters, gain: description.parameters[gain] * number(neuron.scale)}
        start = {} if neuron.v_init is None else {"v_init": _initial(neuron.v_init)}
        return description._replace(parameters=parameters, metadata={**description.metadata, **start})
    kind = CuBaLIF if type(neuron) is eventprop.CuBaLIF else type(neuron)  # they differ in their gradients alone
    if kind is LI or kind is CuBaLI:
        return Description(*_membrane(neuron, dt, discretization))
    if kind is IF or kind is LIF or kind is CuBaLIF:
        name, parameters = ("IF", {"r": np.full((), 1 / dt)}) if kind is IF else _membrane(neuron, dt, discretization)
        reset, metadata = _reset(neuron)
        return Description(name, {**parameters, "v_threshold": number(neuron.threshold), "v_reset": reset}, metadata)
    if kind is ParametricLIF:
        return describe(_as_lif(neuron), dt, discretization)
    if kind is Lowpass:
        return Description(*_membrane(_as_integrator(neuron, dt), dt, discretization))
    if kind is SpikingActivation or kind is BurstIF:
        return _rate_coded(neuron, dt)
    raise NIRError(
        f"a {kind.__name__} has no node in NIR: it knows IF, LIF, CuBaLIF, LI, CuBaLI and Lowpass, and of "
        f"converted networks SpikingActivation and BurstIF"
    )


def _membrane(neuron: Any, dt: float, discretization: Discretization) -> tuple[str, dict[str, np.ndarray]]:
    """Return the kind of a node with a leaky membrane, and its parameters without those of the threshold."""
    share, gain, rest = 1 - number(neuron.decay), number(neuron.gain), number(neuron.v_rest)
    spikes = "F" if isinstance(neuron, SpikingNeuron) else ""
    if isinstance(neuron, CuBaLI | CuBaLIF):
        share_syn = 1 - number(neuron.decay_syn)
        tau_mem = _time_constant("decay", share, dt, discretization)
        tau_syn = _time_constant("decay_syn", share_syn, dt, discretization)
        # the gain goes into w_in and not into r, so that snnTorch, which has no r, can take it
        parameters = {"tau_mem": tau_mem, "tau_syn": tau_syn, "r": 1 / share, "w_in": gain / share_syn, "v_leak": rest}
        return f"CubaLI{spikes}", parameters
    if np.all(share == 0):
        if np.any(rest != 0):
            raise NIRError(f"v_rest = {rest} does not fit decay = 1: NIR's {'IF' if spikes else 'I'} starts at 0")
        return "IF" if spikes else "I", {"r": gain / dt}
    tau = _time_constant("decay", share, dt, discretization)
    return f"LI{spikes}", {"tau": tau, "r": gain / share, "v_leak": rest}


def _as_lif(neuron: ParametricLIF) -> LIF:
    """Return the neuron with the leak that it has been trained to."""
    leak: Any = number(jax.nn.sigmoid(jnp.asarray(neuron.w)))
    same = {field.name: getattr(neuron, field.name) for field in dataclasses.fields(SpikingNeuron)}
    return LIF(1 - leak, gain=leak if neuron.decay_input else 1.0, v_rest=neuron.v_rest, **same)


def _as_integrator(filter: Lowpass, dt: float) -> LI:
    """Return what a lowpass filter is, but for its delay."""
    if np.any(number(filter.initial_level) != 0):
        raise NIRError(f"initial_level = {filter.initial_level} cannot be written: NIR's filters start at 0")
    _check_dt(filter, dt)
    decay = np.exp(-dt / np.maximum(number(filter.tau), 1e-8))
    return LI(decay, gain=1 - decay)


def _check_dt(part: Lowpass | RateCoded, dt: float) -> None:
    if not np.allclose(number(part.dt), dt, rtol=1e-6, atol=0):
        raise NIRError(f"its dt = {part.dt} is not the dt = {dt} to write it for: change it with jsnn.with_dt")


def _time_constant(name: str, share: np.ndarray, dt: float, discretization: Discretization) -> np.ndarray:
    if np.any(share == 0):
        raise NIRError(
            f"{name} = 1 has no time constant, and no node of NIR has one neuron with a leak and one without"
        )
    if discretization == "exact" and np.any(share == 1):
        raise NIRError(f"{name} = 0 has no time constant: write it with discretization='euler'")
    return dt / share if discretization == "euler" else -dt / np.log1p(-share)


def _reset(neuron: SpikingNeuron) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the value that NIR resets to, and the metadata of a reset that does something else."""
    if callable(neuron.reset):
        raise NIRError("a reset that is a function cannot be written: NIR knows the reset to a value, 'zero'")
    if not is_step(neuron.surrogate):
        raise NIRError(f"its surrogate {neuron.surrogate!r} cannot be written: NIR knows spikes, 0 and 1, alone")
    metadata: dict[str, Any] = {"reset": neuron.reset} if neuron.reset != "zero" else {}
    metadata |= {name: True for name in ("reset_delay", "detach_reset") if getattr(neuron, name)}
    return number(neuron.v_reset if neuron.reset == "zero" else 0.0), metadata


def _rate_coded(neuron: Any, dt: float) -> Description:
    if getattr(neuron, "activation", jax.nn.relu) is not jax.nn.relu:
        raise NIRError(f"an activation other than jax.nn.relu cannot be written, got {neuron.activation}")
    _check_dt(neuron, dt)
    metadata: dict[str, Any] = {"neuron": type(neuron).__name__, "reset": "subtract", "v_init": _initial(neuron.v_init)}
    if isinstance(neuron, BurstIF):
        metadata["max_spikes"] = neuron.max_spikes
    parameters = {"r": np.ones(()), "v_threshold": np.ones(()), "v_reset": np.zeros(())}
    return Description("IF", parameters, metadata)


def _initial(v_init: Parameter) -> np.ndarray:
    if is_key(v_init):
        raise NIRError("v_init is drawn at random, which NIR cannot say: give it as a number")
    return number(v_init)


def output_factor(neuron: Any) -> np.ndarray:
    """Return what the output of a neuron's node is multiplied by to be that of the neuron."""
    if isinstance(neuron, Scaled):
        return output_factor(neuron.neuron) / number(neuron.scale)
    return number(neuron.amplitude) / number(neuron.dt) if isinstance(neuron, RateCoded) else np.ones(())


def kept(node: Any) -> dict[str, Any]:
    """Return what jsnn has kept in the metadata of a node.

    Raises:
        NIRError: if something else stands there.
    """
    found = (node.metadata or {}).get(METADATA, {})
    if not isinstance(found, dict):
        raise NIRError(f"metadata must have names and values under {METADATA!r}, got {found!r}")
    return found


def number(parameter: Parameter) -> np.ndarray:
    """Return the value of a parameter, in float64."""
    if isinstance(parameter, nnx.Variable):
        parameter = parameter[...]
    return np.asarray(parameter, np.float64)


# NIR's to ours


def membrane(
    kind: str, values: dict[str, np.ndarray], dt: float, discretization: Discretization
) -> dict[str, np.ndarray]:
    """Return the parameters of our leaky membrane, `decay`, `gain` and so on, for those of a node (float64)."""
    if kind in ("I", "IF"):
        return {"decay": np.ones(()), "gain": values["r"] * dt, "v_rest": np.zeros(())}
    name = "tau" if "tau" in values else "tau_mem"
    share = _share(name, values[name], dt, discretization)
    found = {"decay": 1 - share, "gain": values["r"] * share, "v_rest": values["v_leak"]}
    if "tau_syn" in values:
        share_syn = _share("tau_syn", values["tau_syn"], dt, discretization)
        found |= {"decay_syn": 1 - share_syn, "gain": found["gain"] * values["w_in"] * share_syn}
    return found


def _share(name: str, tau: np.ndarray, dt: float, discretization: Discretization) -> np.ndarray:
    """Return the share of its way that a variable goes in a step."""
    if not np.all(tau > 0):
        raise NIRError(f"{name} must be > 0, got {_some(tau, tau <= 0)}")
    if discretization == "exact":
        return -np.expm1(-dt / tau)
    if np.any(tau < dt * (1 - 1e-6)):
        raise NIRError(
            f"{name} = {_some(tau, tau < dt)} s is shorter than dt = {dt} s, for which Euler's step is unstable: take "
            f"a smaller dt, the one that the graph was written for, or discretization='exact'"
        )
    return np.minimum(dt / tau, 1)


def _some(values: np.ndarray, wrong: np.ndarray) -> float:
    return float(np.broadcast_to(values, wrong.shape)[wrong].ravel()[0])


def build(
    kind: str,
    values: dict[str, np.ndarray],
    metadata: dict[str, Any],
    dt: float,
    discretization: Discretization,
    options: dict[str, Any],
) -> Neuron:
    """Return our neuron for a node: `values` are its parameters, channels last; `options` go to a neuron that spikes.

    Raises:
        NIRError: if a parameter is out of its range.
    """
    if metadata.get("neuron") in RATE_CODED:
        return _build_rate_coded(values, metadata, dt)
    found = membrane(kind, values, dt, discretization)
    if not kind.endswith("F"):
        return (CuBaLI if "decay_syn" in found else LI)(**_simplified(found))
    threshold, reset = values["v_threshold"], values["v_reset"]
    if np.any(threshold <= 0) and kind != "IF":  # ours count from rest where theirs do not: the spikes are the same
        threshold, reset = threshold - found["v_rest"], reset - found["v_rest"]
        found["v_rest"] = np.zeros(())
    if not np.all(threshold > 0):
        raise NIRError(f"v_threshold must lie above rest, got {_some(threshold, threshold <= 0)} above it")
    chosen: dict[str, Any] = {
        name: metadata[name] for name in ("reset", "reset_delay", "detach_reset") if name in metadata
    }
    values = {"threshold": threshold, "v_reset": reset}
    spiking: dict[str, Any] = {**_simplified(values), "reset": "zero", **chosen, **options}
    if kind == "IF" and np.allclose(found["gain"], 1, rtol=1e-9, atol=0):
        neuron: Neuron = IF(**spiking)
    else:
        neuron = (CuBaLIF if "decay_syn" in found else LIF)(**_simplified(found), **spiking)
    return Scaled(neuron, v_init=metadata["v_init"]) if "v_init" in metadata else neuron


def _build_rate_coded(values: dict[str, np.ndarray], metadata: dict[str, Any], dt: float) -> Neuron:
    """Return a neuron of a converted network, whose output is its number of spikes."""
    scale = simplified(values["r"])
    more = {"max_spikes": float(metadata["max_spikes"])} if "max_spikes" in metadata else {}
    neuron = RATE_CODED[metadata["neuron"]](dt=dt, amplitude=dt * scale, **more)
    return Scaled(neuron, scale, v_init=metadata["v_init"])


def is_hardly_driven(neuron: Any) -> bool:
    """Return whether an input of 1 brings every neuron less than a thousandth of the way to its threshold in a step."""
    if not isinstance(neuron, LIF | CuBaLIF):
        return False
    gain = np.abs(number(neuron.gain))
    if isinstance(neuron, CuBaLIF):  # the current grows until it is its input times that
        gain = gain / np.maximum(1 - number(neuron.decay_syn), np.finfo(np.float64).tiny)
    return bool(np.all(gain < _FAR_BELOW * (number(neuron.threshold) - number(neuron.v_rest))))


def _simplified(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: simplified(value) for name, value in values.items()}


def simplified(values: np.ndarray) -> Any:
    """Return a parameter, channels last, as a number if all neurons share it, and one for each channel if those do."""
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    of_channel = values.reshape(-1, values.shape[-1])
    return jnp.asarray(of_channel[0] if np.all(of_channel == of_channel[0]) else values, jnp.float32)
