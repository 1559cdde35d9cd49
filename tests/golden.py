"""How outputs are held to golden vectors, and pictures to what they should say."""

import zlib

import numpy as np


def close(actual, expected, relative=1e-5):
    """Fails unless elementwise equal but for `relative`, of the element or of the largest one near zero."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=relative * np.abs(expected).max())


def note_of(ax):
    """Return the remark above a picture."""
    return ax.child_axes[0].get_xlabel()


def draw_weights(shapes):
    """Return a float32 array for each name in `{name: shape}`: wide enough that every layer spikes."""
    arrays = {}
    for name, shape in shapes.items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("running_var"):
            arrays[name] = random.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            centre = 1.0 if name.endswith("weight") else 0.0 if name.endswith("running_mean") else 0.3
            arrays[name] = centre + 0.1 * random.normal(size=shape)
        else:
            arrays[name] = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return {name: array.astype(np.float32) for name, array in arrays.items()}
