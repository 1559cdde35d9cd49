"""Plasticity: weights that change while a network runs, by rules that look at spikes.

    rule = jsnn.plasticity.STDP.from_time_constants(20e-3, 20e-3, dt=1e-3)
    plastic = jsnn.Plastic(nnx.Linear(784, 100, rngs=rngs), rule, jsnn.LIF(0.9))
    state, spikes = jsnn.unroll(plastic, inputs)
    state.weights

The weights are part of the state, so rules run under `unroll`, `step`, `jit`, `vmap`, and can be differentiated.
"""

from jsnn.plasticity.bounds import Bounds
from jsnn.plasticity.plastic import Plastic, PlasticState
from jsnn.plasticity.rates import BCM, BCMTraces, HomeostaticScaling, Normalization, Oja, RateTraces, ScalingTraces
from jsnn.plasticity.rule import Chain, Rule, outer, over_batch
from jsnn.plasticity.short_term import FastWeights, ShortTerm, ShortTermTraces
from jsnn.plasticity.spike_timing import STDP, RewardSTDP, RewardTraces, STDPTraces, TripletSTDP, TripletTraces

__all__ = [
    "BCM",
    "STDP",
    "BCMTraces",
    "Bounds",
    "Chain",
    "FastWeights",
    "HomeostaticScaling",
    "Normalization",
    "Oja",
    "Plastic",
    "PlasticState",
    "RateTraces",
    "RewardSTDP",
    "RewardTraces",
    "Rule",
    "STDPTraces",
    "ScalingTraces",
    "ShortTerm",
    "ShortTermTraces",
    "TripletSTDP",
    "TripletTraces",
    "outer",
    "over_batch",
]
