"""snnTorch's neurons by snnTorch's parameter names: the same numbers, step by step.

snnTorch compares the membrane with its threshold after the update, returns it before its reset, and applies
the reset, its gradient stopped, in the next step: `reset_delay=True`, its default and ours here. Its
`reset_delay=False` keeps that late reset and adds a second one in the step itself, `v -= (spikes - late) * threshold`,
where `late` are the spikes of the step before. So a neuron that spiked then, and does not now, gets back what the late
reset took. The reset `"zero"` throws away the input of the step as well, except in `Leaky`.

Common arguments:

* `threshold`, and `alpha` and `beta` in [0, 1], are numbers, or arrays that broadcast against the state from
  the right (per neuron or per channel). `learn_...=True` makes them trainable (`nnx.Param`).
* `spike_grad`: the surrogate, such as `jsnn.surrogate.fast_sigmoid(25.0)`; by default `arctan(2.0)`.
* `reset_mechanism`: `"subtract"`, `"zero"` or `"none"`.
* `inhibition`: only the neuron with the highest membrane along the last axis may spike; all are reset.

Values outside their range raise ValueError. Currents `[B, ...]` go in, spikes `[B, ...]` come out, all of it
dimensionless. snnTorch's own names lead to the same functions: `Leaky` is `leaky`, and so on. snnTorch's `mem` is the
state's `v` and its `syn` the state's `i`, both to be read with `jsnn.record`.

Source: snnTorch 1.0.0 (Eshraghian et al., "Training spiking neural networks using lessons from deep
learning", 2023), `snntorch._neurons`. Held to its outputs by `tests/test_compat_snntorch.py`.
"""

import math
from typing import Any, Literal, TypeAlias

from flax import nnx

from jsnn import surrogate
from jsnn.arguments import check_memory, checked
from jsnn.compat import pytorch
from jsnn.compat import snntorch_neurons as neurons
from jsnn.compat.snntorch_neurons import trainable
from jsnn.convolution import Conv
from jsnn.layers import Recurrent
from jsnn.neurons.checks import check_decay, check_positive
from jsnn.types import Array, Parameter, SpikeFunction

ResetMechanism: TypeAlias = Literal["subtract", "zero", "none"]


@checked
def leaky(
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> neurons.Leaky:
    """Return `Leaky` of snnTorch: `mem = beta * mem + x`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = leaky(beta=0.5)
        >>> jsnn.record(neuron, jnp.full((4, 1), 0.75))["Leaky"].states.v[:, 0].tolist()
        [0.75, 1.125, 0.3125, 0.90625]
    """
    return neurons.Leaky(
        decay=_decay("beta", beta, learn_beta),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay),
    )


@checked
def lapicque(
    beta: float | None = None,
    R: float | None = None,
    C: float | None = None,
    time_step: float = 1.0,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> neurons.Lapicque:
    """Return `Lapicque` of snnTorch: an RC circuit, `mem = x * time_step / C + (1 - time_step / (R * C)) * mem`.

    Give two of the resistance `R`, the capacitance `C` and `beta` = exp(-time_step / (R * C)), or `beta` alone for
    R = 1; of all three, `R` and `C` count. As in snnTorch, the membrane decays not by `beta` but by Euler's
    1 - time_step / (R * C), which must not be negative. snnTorch's `learn_beta` is not offered (there it works for
    one backward pass only), and its `Lapicque` has no `reset_delay`: here it works as in `Leaky`.

    Examples:
        >>> round(lapicque(R=5.0, C=2.0).decay, 3)
        0.9
    """
    R, C = _resistance_and_capacitance(beta, R, C, time_step)
    return neurons.Lapicque(
        decay=1 - time_step / (R * C),
        gain=time_step / C,
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay),
    )


@checked
def synaptic(
    alpha: float | Array,
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_alpha: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> neurons.Synaptic:
    """Return `Synaptic` of snnTorch: `syn = alpha * syn + x`, `mem = beta * mem + syn`; no reset of `syn`.

    Examples:
        >>> synaptic(alpha=0.9, beta=0.8).decay_syn
        0.9
    """
    return neurons.Synaptic(
        decay=_decay("beta", beta, learn_beta),
        decay_syn=_decay("alpha", alpha, learn_alpha),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay),
    )


@checked
def rleaky(
    beta: float | Array,
    V: float | Array = 1.0,
    all_to_all: bool = True,
    linear_features: int | None = None,
    conv2d_channels: int | None = None,
    kernel_size: int | tuple[int, int] | None = None,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    learn_recurrent: bool = True,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
    rngs: nnx.Rngs | None = None,
) -> Recurrent:
    """Return `RLeaky` of snnTorch: `mem = beta * mem + x + recurrent(last spikes)`.

    With `all_to_all` the recurrent layer is `nnx.Linear(linear_features, linear_features)`, or a convolution
    with `conv2d_channels` and `kernel_size`. Both have a bias, draw from `rngs` as PyTorch does, uniformly
    within 1 / sqrt(inputs), and do not use `V`. Without it each neuron hears only itself, with weight `V`, a
    number or `[N]`. The layer is the result's `synapse`; its `kernel` is the transpose of snnTorch's
    `recurrent.weight`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> rleaky(beta=0.9, linear_features=10, rngs=nnx.Rngs(0)).synapse.kernel.shape
        (10, 10)
        >>> rleaky(beta=0.9, V=0.5, all_to_all=False).synapse(jnp.ones(3)).tolist()
        [0.5, 0.5, 0.5]
    """
    neuron = neurons.RLeaky(
        decay=_decay("beta", beta, learn_beta),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay),
    )
    synapse = _recurrence("rleaky", V, all_to_all, linear_features, conv2d_channels, kernel_size, learn_recurrent, rngs)
    return Recurrent(neuron, synapse)


@checked
def rsynaptic(
    alpha: float | Array,
    beta: float | Array,
    V: float | Array = 1.0,
    all_to_all: bool = True,
    linear_features: int | None = None,
    conv2d_channels: int | None = None,
    kernel_size: int | tuple[int, int] | None = None,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_alpha: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    learn_recurrent: bool = True,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
    rngs: nnx.Rngs | None = None,
) -> Recurrent:
    """Return `RSynaptic` of snnTorch: `syn = alpha * syn + x + recurrent(last spikes)`, `mem = beta * mem + syn`.

    The recurrent layer is that of `rleaky`, see there; no reset touches `syn`.

    With `reset_delay=False` the numbers are not snnTorch 1.0.0's: its `RSynaptic` ignores it where states are passed
    in, and fails where they are not. Here it does what it does in `synaptic`.

    Examples:
        >>> from flax import nnx
        >>> rsynaptic(alpha=0.9, beta=0.8, linear_features=10, rngs=nnx.Rngs(0)).neuron.decay_syn
        0.9
    """
    neuron = neurons.RSynaptic(
        decay=_decay("beta", beta, learn_beta),
        decay_syn=_decay("alpha", alpha, learn_alpha),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay),
    )
    synapse = _recurrence(
        "rsynaptic", V, all_to_all, linear_features, conv2d_channels, kernel_size, learn_recurrent, rngs
    )
    return Recurrent(neuron, synapse)


@checked
def alpha(
    alpha: float | Array,
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_alpha: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "zero",
) -> neurons.Alpha:
    """Return `Alpha` of snnTorch: the input through an alpha-shaped filter; `alpha` must be > `beta`.

    Examples:
        >>> alpha(alpha=0.9, beta=0.8).beta
        0.8
    """
    return neurons.Alpha(
        alpha=_decay("alpha", alpha, learn_alpha),
        beta=_decay("beta", beta, learn_beta),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism, reset_delay=True),
    )


Leaky, Lapicque, Synaptic, RLeaky, RSynaptic, Alpha = leaky, lapicque, synaptic, rleaky, rsynaptic, alpha


def _recurrence(
    name: str,
    V: float | Array,
    all_to_all: bool,
    features: int | None,
    channels: int | None,
    kernel_size: int | tuple[int, int] | None,
    learn: bool,
    rngs: nnx.Rngs | None,
) -> nnx.Module:
    """Return PyTorch's linear layer or convolution, with its random weights; or a weight from each neuron to itself."""
    if not all_to_all:
        synapse: nnx.Module = neurons.OneToOne(V)
    elif rngs is None:
        raise ValueError(f"{name} with all_to_all=True draws its weights: pass rngs, such as rngs=nnx.Rngs(0)")
    elif features is not None and channels is None and kernel_size is None:
        check_memory("the recurrent weights", (features, features), copies=4)
        synapse = nnx.Linear(features, features, **pytorch.initializers(features), rngs=rngs)
    elif features is None and channels is not None and kernel_size is not None:
        window = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        synapse = Conv(channels, channels, window, **pytorch.initializers(channels * math.prod(window)), rngs=rngs)
    else:
        raise ValueError(
            f"{name} with all_to_all=True needs linear_features, or conv2d_channels with kernel_size, got "
            f"linear_features={features}, conv2d_channels={channels}, kernel_size={kernel_size}"
        )
    return synapse if learn else _freeze(synapse)


def _freeze(layer: nnx.Module) -> nnx.Module:
    """Return a new layer with its weights fixed."""
    for name, value in list(vars(layer).items()):
        if isinstance(value, nnx.Param):
            setattr(layer, name, neurons.Fixed(value[...]))
    return layer


def _spiking(
    threshold: float | Array,
    learn_threshold: bool,
    spike_grad: SpikeFunction | None,
    reset_mechanism: ResetMechanism,
    reset_delay: bool,
) -> dict[str, Any]:
    """Return the fields of `SpikingNeuron` for snnTorch's arguments."""
    return {
        "threshold": trainable(threshold) if learn_threshold else threshold,
        "surrogate": surrogate.arctan(2.0) if spike_grad is None else spike_grad,
        "reset": reset_mechanism,
        "reset_delay": reset_delay,
        "detach_reset": reset_delay,  # the reset in the same step lets gradients through
    }


def _resistance_and_capacitance(
    beta: float | None, R: float | None, C: float | None, time_step: float
) -> tuple[float, float]:
    for name, value in (("R", R), ("C", C), ("time_step", time_step)):
        if value is not None:
            check_positive(name, value)
    if R is None or C is None:
        if beta is None:
            raise ValueError(f"lapicque needs beta, or both R and C, got beta={beta}, R={R}, C={C}")
        if not 0 < beta < 1:
            raise ValueError(f"beta must be in (0, 1), got {beta}")
        time_constant = -time_step / math.log(beta)
        if C is None:
            R = 1.0 if R is None else R
            C = time_constant / R
        else:
            R = time_constant / C
    if time_step > R * C:
        raise ValueError(f"R * C must be >= time_step = {time_step}, got {R * C}: take a smaller time_step")
    return R, C


def _decay(name: str, value: float | Array, learn: bool) -> Parameter:
    check_decay(name, value)
    return trainable(value) if learn else value
