"""How random spikes are held to their probabilities."""

import numpy as np
import scipy  # whose parts are imported where they are used

# with a fresh key one statistical test in a million would fail; keys are fixed, so that none does by chance
FALSE_ALARM_RATE = 1e-6


def assert_spike_probability(spikes, probability):
    """Each neuron's spikes over [T, N] number what a binomial law with its probability allows."""
    counts, num_steps = np.asarray(spikes).sum(axis=0, dtype=np.float64), len(spikes)
    probability = np.clip(np.asarray(probability, np.float64), 0, 1)
    tail = FALSE_ALARM_RATE / probability.size / 2
    low, high = scipy.stats.binom.ppf(tail, num_steps, probability), scipy.stats.binom.isf(tail, num_steps, probability)
    np.testing.assert_array_less(low - 1, counts)
    np.testing.assert_array_less(counts, high + 1)
    # ppf gives -1 for certain silence and certain spikes have no spread: hold those exactly
    certain = (probability == 0) | (probability == 1)
    np.testing.assert_array_equal(counts[certain], num_steps * probability[certain])


def assert_plausible(p_values):
    """None of the p-values is smaller than the smallest of as many would be, but for the false alarm rate."""
    p_values = np.asarray(p_values, np.float64)
    assert not np.isnan(p_values).any()
    assert p_values.min() > FALSE_ALARM_RATE / p_values.size, f"p = {p_values.min():.1e} among {p_values.size}"


def p_of_frequencies(counts, probabilities):
    """The p-value of a chi-square test of independent outcomes with these probabilities; expects 5 of each or more."""
    return scipy.stats.chisquare(counts, np.sum(counts) * np.asarray(probabilities)).pvalue


def p_of_covariance(left, right, probability):
    """The p-value of two arrays of spikes having no covariance, each spike with the same probability.

    The products of the deviations have variance (p (1 - p))^2 each and are uncorrelated, also where a spike is in
    several of them; their sum over a million and more is normal.
    """
    both, ones = np.count_nonzero(left & right), np.count_nonzero(left) + np.count_nonzero(right)
    products = both - probability * ones + probability**2 * left.size
    deviations = products / (probability * (1 - probability) * np.sqrt(left.size))
    return 2 * scipy.stats.norm.sf(abs(deviations))
