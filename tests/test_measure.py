"""What is measured over time beside labels that have no time axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from experiments.measure import Measures


def test_labels_are_those_of_every_step():
    outputs = np.zeros((4, 2, 3))  # [T, B, classes]
    outputs[[0, 1, 2, 3], 0, [0, 1, 1, 1]] = 1  # right from the second step on
    outputs[:, 1, 2] = 1  # always right
    measures = Measures(num_steps=4, dt=0.5, last_steps=2)
    measures.add(outputs, np.array([1, 2]), {"layer": np.array([[2.0, 0.0], [4.0, 2.0]])})
    assert measures.accuracy_by_step == [0.5, 1, 1, 1]
    metrics = measures.metrics()
    assert (metrics["last_accuracy"], metrics["mean_accuracy"]) == (1, 1)
    assert (metrics["rate_mean_hz"], metrics["rate_max_hz"], metrics["spikes_per_image"]) == (1, 2, 4)


@pytest.mark.slow
def test_a_diagnosis_with_labels():
    inputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    network = jsnn.convert(jax.nn.relu, inputs, dt=1.0)
    found = jsnn.conversion.diagnose(network, inputs, np.array([0, 1, 1]), num_steps=3, dt=1.0)
    assert abs(found.rate_accuracy - 2 / 3) < 1e-6
    np.testing.assert_allclose(found.accuracy, [2 / 3] * 3, atol=1e-6)
    assert found.activations[0].silent == 2 / 6  # pairs of a neuron and an input
    assert found.activations[0].saturated == 3 / 6
    assert "silent pairs" in str(found)
