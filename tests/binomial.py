"""How random spikes are held to their probabilities."""

import numpy as np
from scipy import stats

# with a fresh key one statistical test in a million would fail; keys are fixed, so that none does by chance
FALSE_ALARM_RATE = 1e-6


def assert_spike_probability(spikes, probability):
    """Each neuron's spikes over [T, N] number what a binomial law with its probability allows."""
    counts, num_steps = np.asarray(spikes, np.float64).sum(axis=0), len(spikes)
    probability = np.clip(np.asarray(probability, np.float64), 0, 1)
    tail = FALSE_ALARM_RATE / probability.size / 2
    low, high = stats.binom.ppf(tail, num_steps, probability), stats.binom.isf(tail, num_steps, probability)
    np.testing.assert_array_less(low - 1, counts)
    np.testing.assert_array_less(counts, high + 1)
    # ppf gives -1 for certain silence and certain spikes have no spread: hold those exactly
    certain = (probability == 0) | (probability == 1)
    np.testing.assert_array_equal(counts[certain], num_steps * probability[certain])
