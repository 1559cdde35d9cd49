"""Networks that are ready: spiking ones of many shapes, those of two tutorials, and rate networks to be converted.

A spiking network is a Neuron: `jsnn.unroll(network, spikes)` gives its outputs at each step, `[T, B, classes]`. A rate
network is a `nnx.Sequential`, a function of images `[B, H, W, C]` that knows no time and gives logits `[B, classes]`;
`jsnn.convert` makes it spike.
"""

from jsnn.models.delayed import delayed_feedforward
from jsnn.models.inhibition import CompetitiveLayer, at_plasticity, competitive
from jsnn.models.recurrent import adaptive_neuron, adaptive_recurrent
from jsnn.models.resnet import default_neuron, spiking_resnet
from jsnn.models.sequential import (
    feedforward,
    norse_conv,
    norse_recurrent,
    rate_conv,
    rate_dense,
    spiking_dense,
    times_ten,
)
from jsnn.models.trained import Pretrained, pretrained
from jsnn.models.transformer import spikformer, spikformer_neuron
from jsnn.models.vgg import spiking_vgg

__all__ = [
    "CompetitiveLayer",
    "Pretrained",
    "adaptive_neuron",
    "adaptive_recurrent",
    "at_plasticity",
    "competitive",
    "default_neuron",
    "delayed_feedforward",
    "feedforward",
    "norse_conv",
    "norse_recurrent",
    "pretrained",
    "rate_conv",
    "rate_dense",
    "spikformer",
    "spikformer_neuron",
    "spiking_dense",
    "spiking_resnet",
    "spiking_vgg",
    "times_ten",
]
