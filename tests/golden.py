"""How outputs are held to golden vectors."""

import numpy as np


def close(actual, expected, relative=1e-5):
    """Fails unless elementwise equal but for `relative`, of the element or of the largest one near zero."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=relative * np.abs(expected).max())
