"""Encoders: how values become spikes over time, `[B, ...]` -> `[T, B, ...]`.

An encoder is a pure function; `num_steps` (T) is a Python integer, static under `jit`. Spikes have the dtype
of the values. The random ones take a `key` first and consume it; no gradient flows through them. They accept
`num_steps=None` for values that vary over time, which have a time axis of their own, `[T, B, ...]`.

    rate            rate, interpolated_rate, poisson, signed_poisson, random_spikes
    one spike       latency, latency_times, spike_latency; times_to_spikes, spikes_to_times, interpolate_spikes
    patterns        burst, phase, phase_weights
    change          delta, send_on_delta, step_forward, time_contrast, contrast_threshold; delta_inverse;
                    SendOnDelta and StepForward, Neurons for streams
    neurons         constant_current, spike_latency_lif; repeat, which leaves the values as they are
    populations     receptive_fields, receptive_field_grid, both without time
    regular trains  regular_spikes
    sound           cochlea; its parts gammatone, mel, center_frequencies, and Gammatone and HairCell, Neurons for
                    streams; Cochlea, which makes spikes of recordings

Each raises ValueError where `num_steps` is less than 1, a parameter is out of its range, or values are missing, and
TypeError where the values are not floating point (images of integers: `x / 255`). NaN and values outside the range
of a code are refused where they can be seen, which is outside `jit`. `docs/encoders.md` lists the names that snnTorch
and Norse give to these codes.
"""

from jsnn.encode.deltas import (
    ReferenceState,
    SendOnDelta,
    StepForward,
    contrast_threshold,
    delta,
    delta_inverse,
    send_on_delta,
    step_forward,
    time_contrast,
)
from jsnn.encode.filter_banks import Gammatone, GammatoneState, center_frequencies, gammatone
from jsnn.encode.hair_cells import HairCell, HairCellState
from jsnn.encode.hearing import Cochlea, cochlea
from jsnn.encode.latencies import latency, latency_times, spike_latency
from jsnn.encode.neurons import constant_current, repeat, spike_latency_lif
from jsnn.encode.patterns import burst, phase, phase_weights
from jsnn.encode.populations import receptive_field_grid, receptive_fields
from jsnn.encode.rates import interpolated_rate, poisson, random_spikes, rate, signed_poisson
from jsnn.encode.regular import regular_spikes
from jsnn.encode.spectra import mel
from jsnn.encode.times import interpolate_spikes, spikes_to_times, times_to_spikes

__all__ = [
    "Cochlea",
    "Gammatone",
    "GammatoneState",
    "HairCell",
    "HairCellState",
    "ReferenceState",
    "SendOnDelta",
    "StepForward",
    "burst",
    "center_frequencies",
    "cochlea",
    "constant_current",
    "contrast_threshold",
    "delta",
    "delta_inverse",
    "gammatone",
    "interpolate_spikes",
    "interpolated_rate",
    "latency",
    "latency_times",
    "mel",
    "phase",
    "phase_weights",
    "poisson",
    "random_spikes",
    "rate",
    "receptive_field_grid",
    "receptive_fields",
    "regular_spikes",
    "repeat",
    "send_on_delta",
    "signed_poisson",
    "spike_latency",
    "spike_latency_lif",
    "spikes_to_times",
    "step_forward",
    "time_contrast",
    "times_to_spikes",
]
