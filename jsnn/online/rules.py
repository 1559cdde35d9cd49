"""The learning rules: what each keeps of the past, and how the loss reaches a layer."""

import dataclasses
from typing import Literal, TypeAlias

from jsnn.arguments import checked

Traces: TypeAlias = Literal["own", "detached", "leaky", "none"]
Signal: TypeAlias = Literal["space", "feedback", "local"]
Feedback: TypeAlias = Literal["symmetric", "random", "trained"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a learning rule keeps of the past, and how it tells a layer what the loss wants.

    Use one of `rtrl`, `eprop`, `ottt`, `sltt` and `decolle`, or their names.

    Attributes:
        name: for errors and tables.
        traces: what is known of the past of a neuron: the sensitivity of its own state to its weights, exact (`"own"`)
            or without the path through the reset (`"detached"`); the inputs, filtered by the neuron's leak alone
            (`"leaky"`); or nothing.
        signal: how a hidden layer hears of the loss of a step: backwards through the layers above, of this step alone
            (`"space"`), by a matrix straight from the outputs (`"feedback"`), or from a readout of its own (`"local"`).
        readout_memory: whether the traces of hidden layers pass through the membrane of a readout that only leaks.
        seed: of the random matrices.
        trained: whether the matrices of the feedback are trained, see `with_feedback`.
    """

    name: str
    traces: Traces
    signal: Signal = "space"
    readout_memory: bool = False
    seed: int = 0
    trained: bool = False


@checked
def rtrl(*, readout_memory: bool = True) -> Rule:
    """Return real-time recurrent learning within each layer: the exact sensitivity of each neuron to its own weights.

        e[t] = ds[t]/ds[t-1] e[t-1] + ds[t]/dx[t] dx[t]/dw,   dL/dw = sum_t dL[t]/dz[t] dz[t]/dw

    It is exact for a layer of any neuron whose step is elementwise, if the layers above it have no memory. With
    `readout_memory` one linear layer and a readout may follow, whose neurons all leak alike, by single numbers, and
    then functions of its outputs alone. It neglects the paths through other neurons of a recurrent layer, and the
    memory of other layers.

    Memory: B * I * M floats for a layer of I inputs and M state variables, if the neuron's leak is one constant (a LIF
    neuron without reset or with a detached "subtract") and no readout has a memory; else B * I * N * M, and B * I * N
    more for each variable of a readout that the traces pass through.

    Args:
        readout_memory: whether the traces of hidden layers pass through the membrane of the readout, as those of
            e-prop do. Without it, layers with one constant leak need less memory.

    Source: Williams and Zipser, "A learning algorithm for continually running fully recurrent neural networks" (1989);
    within a layer Zucchet, Meier, Schug, Mujika and Sacramento, "Online learning of long-range dependencies" (2023).
    """
    return Rule("rtrl", "own", readout_memory=readout_memory)


@checked
def eprop(
    *,
    feedback: Feedback = "symmetric",
    readout_memory: bool = True,
    seed: int = 0,
) -> Rule:
    """Return e-prop: eligibility traces of each synapse, times a learning signal for each neuron.

        dL/dw_ji = sum_t L_j[t] e_ji[t],  e = the trace of a synapse, filtered by the readout's leak

    The trace leaves out the path through the reset. Exact for one layer without recurrence and without reset under a
    linear readout whose neurons all leak alike, with symmetric feedback. It neglects the paths through other neurons,
    recurrent ones above all.

    Memory: B * I * N * M floats for a layer with I inputs (those from its own neurons too), N neurons and M state
    variables, and as many for each variable of the readout. Without `readout_memory`, B * I * M where the leak is one
    constant (LIF).

    Args:
        feedback: how the error reaches a hidden layer: by the weights of the layers above, by a fixed random matrix, or
            by one that learns as the readout does (`with_feedback` adds it to a network).
        readout_memory: whether traces pass through the membrane of the readout, as in the paper.
        seed: of the random matrices.

    Raises:
        ValueError: if `feedback` is not one of them.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons" (2020).
    """
    signal: Signal = "space" if feedback == "symmetric" else "feedback"
    return Rule("eprop", "detached", signal, readout_memory, seed, feedback == "trained")


@checked
def ottt() -> Rule:
    """Return online training through time: the inputs of a layer, filtered by its neurons' leak.

        a[t] = decay a[t-1] + x[t],   dL/dw = sum_t dL[t]/dz[t] H'(v[t]) a[t]

    Exact for the weights of a layer whose neurons have no adaptation and no reset, or a detached one, if the layers
    above it have no memory. It neglects reset, adaptation, recurrence, the memory of the layers above, and the past of
    trained parameters of a neuron.

    Memory: B * I * M floats for a layer of I inputs and M state variables, and no more for a convolution than the image
    that it sees.

    Source: Xiao, Meng, Zhang, He and Lin, "Online training through time for spiking neural networks" (2022).
    """
    return Rule("ottt", "leaky")


@checked
def sltt() -> Rule:
    """Return spatial learning through time: the gradient of each step by itself.

        dL/dw = sum_t dL[t]/dz[t] H'(v[t]) x[t]

    Exact for neurons without memory alone. It neglects the membrane of the step before. Memory: none.

    Source: Meng, Xiao, Yan, Wang, Lin and Luo, "Towards memory- and time-efficient backpropagation for training
    spiking neural networks" (2023).
    """
    return Rule("sltt", "none")


@checked
def decolle(*, seed: int = 0) -> Rule:
    """Return deep continuous local learning: each hidden layer has a fixed random readout and a loss of its own.

        y_k[t] = G_k z_k[t],   dL/dw = sum_t dL(y_k[t])/dz_k[t] H'(v_k[t]) a[t],   a as in `ottt`

    Of the loss of the network it is exact for nothing but the last layer. It neglects what other layers need, and
    reset and recurrence as `ottt` does.

    Memory: as `ottt`, B * I * M floats for a layer of I inputs and M state variables.

    Args:
        seed: of the random readouts.

    Source: Kaiser, Mostafa and Neftci, "Synaptic plasticity dynamics for deep continuous local learning (DECOLLE)"
    (2020).
    """
    return Rule("decolle", "leaky", "local", seed=seed)


RULES = {make.__name__: make for make in (rtrl, eprop, ottt, sltt, decolle)}


def as_rule(rule: str | Rule) -> Rule:
    """Return the rule with this name, or the rule itself; raise ValueError if the name is unknown."""
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, or what these functions return, got {rule!r}")
    return RULES[rule]()
