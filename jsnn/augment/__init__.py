"""Normalisation and random augmentation of examples: pure functions for use inside a jitted train step.

Random functions take the `key` first, consume it, and draw for every example on its own; they keep the dtype, and so
work on uint8 as well as on floating point. Examples come as training has them, the batch first, [B, ...]:

    any examples        to_float, normalize
    in space            random_flip, random_shift, cutout: images [B, H, W, C], or recordings [B, T, H, W, C]
    in time             time_shift, time_stretch, jitter: recordings [B, T, ...]
    of recordings       drop, channel_shift, cutmix
"""

from jsnn.augment.images import cutout, normalize, random_flip, random_shift, to_float
from jsnn.augment.recordings import channel_shift, cutmix, drop, jitter, time_shift, time_stretch

__all__ = [
    "channel_shift",
    "cutmix",
    "cutout",
    "drop",
    "jitter",
    "normalize",
    "random_flip",
    "random_shift",
    "time_shift",
    "time_stretch",
    "to_float",
]
