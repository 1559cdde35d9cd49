"""Networks in integers: trained with rounded weights and states, then run in int8, int16 and int32 alone.

    rounded = jsnn.quant.aware(network, weights=8, states=16)  # train it on: gradients pass through the rounding
    twin = jsnn.quant.integer(rounded)                         # the same spikes, without a floating-point operation

All numbers of the rounded network are integers times a unit. With u the unit of a membrane and c that of currents, both
powers of two, a step of `jsnn.LIF` after a dense layer is

    a = sum of q * s                                int8 weights q, inputs s -> int32
    x = a * m_w >> k_w, + bias                      int32, unit c; the weight is q * (m_w * 2**-k_w * c)
    v = v + ((rest - v) * m_l >> k_l) + (x * m_g >> k_g)      leak and gain; saturated to `states` bits, unit u
    s = v > threshold,  v = v - s * threshold

with multipliers m of 8 bits. A shift rounds to the nearest integer, a tie upwards: (y + 2**(k - 1)) >> k.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
(2018), for the multipliers; Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic
neurons" (2013), for the gradient, which takes a rounding for the identity.
"""

from jsnn.quant.training import aware
from jsnn.quant.twins import integer

__all__ = ["aware", "integer"]
