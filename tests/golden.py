"""How outputs are held to golden vectors, and pictures to what they should say."""

import numpy as np


def close(actual, expected, relative=1e-5):
    """Fails unless elementwise equal but for `relative`, of the element or of the largest one near zero."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=relative * np.abs(expected).max())


def note_of(ax):
    """Return the remark above a picture."""
    return ax.child_axes[0].get_xlabel()
