"""jsnn: a differentiable simulator of spiking neural networks in JAX.

A neuron is an immutable pytree with two pure methods, `init` and `step`; a network is a neuron too; `unroll` is the
one loop over time. Time is axis 0 everywhere: `[T, B, ...]`, channels last.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
