"""Spike functions: one Heaviside forwards, a choice of derivatives backwards.

The Heaviside step has no useful derivative, so training puts a *surrogate* in its place (Neftci, Mostafa and
Zenke, IEEE Signal Processing Magazine 2019). Call what a factory here returns with `x = v - threshold`:

    spikes = 1 where x > 0, else 0          a membrane exactly at its threshold is silent
    d spikes / d x = derivative(x)          the formula in the first line of the factory's docstring

A bell-shaped derivative is as wide as `1 / slope`. Its `height` is the value at `x = 0`: leave it out for the
formula's own, or give it to scale the curve. All parameters are Python numbers: a surrogate is static, part
of the compiled program. A factory raises TypeError where one is not a number, and ValueError where it is not
positive and below 1e30 (a `cutoff` may be negative). `docs/surrogates.md` says what other libraries call each.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jsnn.types import Array

Parameters = tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Surrogate:
    """The Heaviside step with a derivative of one's choice; make it with a factory such as `arctan()`.

    Works under `jit`, `vmap`, `scan`, `remat`, and forward- and reverse-mode differentiation. Equal calls
    of a factory make equal surrogates with equal hashes, so that a new one does not compile a function again.

    Examples:
        >>> spike = arctan(2.0)
        >>> spike
        arctan(slope=2.0)
        >>> spike(jnp.array([-0.5, 0.0, 0.5]))
        Array([0., 0., 1.], dtype=float32)
        >>> jax.grad(spike)(0.0)
        Array(1., dtype=float32, weak_type=True)
        >>> spike == arctan(2)
        True
    """

    name: str
    formula: Callable[..., Array]
    """(x, **parameters) -> derivative, both of one shape."""
    parameters: Parameters = ()
    """What the factory was given, in its order."""

    @property
    def slope(self) -> float | None:
        """The slope, or None where the derivative has none."""
        return dict(self.parameters).get("slope")

    def __call__(self, x: Array) -> Array:
        """Return spikes in {0, 1} for `x = v - threshold` [...], in the shape and dtype of `x`."""
        return _heaviside(self, jnp.asarray(x))

    def derivative(self, x: Array) -> Array:
        """Return the surrogate derivative at `x` [...], in the shape and dtype of `x` (integers become floats).

        It is computed in float32 at least: in float16 the square of 256 is infinite.
        """
        dtype = jnp.result_type(x, float)
        x = jnp.asarray(x, jnp.promote_types(dtype, jnp.float32))
        derivative = self.formula(x, **dict(self.parameters))
        try:
            return jnp.broadcast_to(jnp.asarray(derivative, dtype), x.shape)
        except (TypeError, ValueError) as error:
            got = "None" if derivative is None else f"shape {jnp.shape(derivative)}"
            raise ValueError(f"{self.name}: a derivative must have the shape of x, {x.shape}, got {got}") from error

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.parameters)})"


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _heaviside(surrogate: Surrogate, x: Array) -> Array:
    return (x > 0).astype(x.dtype)


@_heaviside.defjvp
def _heaviside_jvp(surrogate, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return _heaviside(surrogate, x), surrogate.derivative(x) * x_dot


def superspike(slope: float = 100.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `1 / (slope |x| + 1)^2`, by Zenke & Ganguli, "SuperSpike", Neural Computation 2018.

    Examples:
        >>> superspike(100.0).derivative(jnp.array([0.0, 0.01]))
        Array([1.  , 0.25], dtype=float32)
    """
    return _make("superspike", _superspike, slope=slope, height=height)


def fast_sigmoid(slope: float = 25.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `1 / (slope |x| + 1)^2`: `superspike` by snnTorch's name, with snnTorch's default.

    Examples:
        >>> fast_sigmoid(25.0).derivative(jnp.array([0.0, 0.04]))
        Array([1.  , 0.25], dtype=float32)
    """
    return _make("fast_sigmoid", _superspike, slope=slope, height=height)


def _superspike(x: Array, slope: float, height: float = 1.0) -> Array:
    return height / (slope * jnp.abs(x) + 1) ** 2


def arctan(slope: float = 2.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope/2 / (1 + (pi/2 slope x)^2)`, of unit area, by Fang et al., ICCV 2021 (PLIF).

    Examples:
        >>> arctan(2.0).derivative(jnp.array([0.0, 1 / jnp.pi]))
        Array([1. , 0.5], dtype=float32)
    """
    return _make("arctan", _arctan, slope=slope, height=height)


def _arctan(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope / 2 if height is None else height) / (1 + (math.pi / 2 * slope * x) ** 2)


def sigmoid(slope: float = 25.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope s (1 - s)`, `s = 1 / (1 + exp(-slope x))`, of unit area; Wu et al., Frontiers 2018.

    The default slope is snnTorch's.

    Examples:
        >>> sigmoid(4.0).derivative(jnp.array([0.0, 1e4]))
        Array([1., 0.], dtype=float32)
    """
    return _make("sigmoid", _sigmoid, slope=slope, height=height)


def _sigmoid(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope if height is None else 4 * height) * jax.nn.sigmoid(slope * x) * jax.nn.sigmoid(-slope * x)


def tanh(slope: float = 1.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `sech(slope x)^2 = 1 - tanh^2`, as in Norse (`"tanh"`); its area is `2 / slope`.

    Examples:
        >>> tanh(1.0).derivative(jnp.array([0.0, 1e4]))
        Array([1., 0.], dtype=float32)
    """
    return _make("tanh", _tanh, slope=slope, height=height)


def logistic(slope: float = 1.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `1 - tanh(slope x)^2` again: the derivative of Norse's `logistic_fn`.

    Norse draws the spikes at random there; the spikes here are the Heaviside's.

    Examples:
        >>> logistic(1.0).derivative(jnp.array([0.0, 1e4]))
        Array([1., 0.], dtype=float32)
    """
    return _make("logistic", _tanh, slope=slope, height=height)


def _tanh(x: Array, slope: float, height: float = 1.0) -> Array:
    # 1 - tanh(u)^2 = 4 s(2u) s(-2u), which does not cancel to nothing where tanh(u) rounds to 1
    return _sigmoid(x, 2 * slope, height)


def circ(slope: float = 1.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `1 / (1 + (slope x)^2)^(3/2)`, as in Norse (`"circ"`, whose alpha is `1 / slope`).

    Examples:
        >>> circ(1.0).derivative(jnp.array([0.0, 3.0**0.5]))
        Array([1.   , 0.125], dtype=float32)
    """
    return _make("circ", _circ, slope=slope, height=height)


def _circ(x: Array, slope: float, height: float = 1.0) -> Array:
    return height * (1 + (slope * x) ** 2) ** -1.5


def triangular(slope: float = 1.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope max(0, 1 - slope |x|)`, of unit area, by Esser et al., PNAS 2016.

    Bellec et al. (NeurIPS 2018) train with the damped `triangular(1.0, height=0.3)`.

    Examples:
        >>> triangular(2.0).derivative(jnp.array([0.0, 0.25, 0.5]))
        Array([2., 1., 0.], dtype=float32)
    """
    return _make("triangular", _triangular, slope=slope, height=height)


def _triangular(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope if height is None else height) * jnp.maximum(0, 1 - slope * jnp.abs(x))


def boxcar(slope: float = 1.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope` where `|x| < 1 / (2 slope)`, else 0, of unit area; Wu et al. (STBP), Frontiers 2018.

    Examples:
        >>> boxcar(2.0).derivative(jnp.array([0.0, 0.2, 0.25]))
        Array([2., 2., 0.], dtype=float32)
    """
    return _make("boxcar", _boxcar, slope=slope, height=height)


def _boxcar(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope if height is None else height) * (jnp.abs(x) < 0.5 / slope)


def gaussian(slope: float = 2.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope / sqrt(2 pi) exp(-(slope x)^2 / 2)`, the normal density; Wu et al., Frontiers 2018.

    The standard deviation is `1 / slope`.

    Examples:
        >>> gaussian(2.0, height=1.0).derivative(jnp.array([0.0, 1e4]))
        Array([1., 0.], dtype=float32)
    """
    return _make("gaussian", _gaussian, slope=slope, height=height)


def _gaussian(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope / math.sqrt(2 * math.pi) if height is None else height) * jnp.exp(-((slope * x) ** 2) / 2)


def erf(slope: float = 2.0, *, height: float | None = None) -> Surrogate:
    """Return the surrogate `slope / sqrt(pi) exp(-(slope x)^2)`, of unit area, as SpikingJelly's `Erf`.

    Norse's `"heavi_erfc"` is `erf(alpha, height=2 / sqrt(pi))`.

    Examples:
        >>> erf(2.0, height=1.0).derivative(jnp.array([0.0, 1e4]))
        Array([1., 0.], dtype=float32)
    """
    return _make("erf", _erf, slope=slope, height=height)


def _erf(x: Array, slope: float, height: float | None = None) -> Array:
    return (slope / math.sqrt(math.pi) if height is None else height) * jnp.exp(-((slope * x) ** 2))


def straight_through() -> Surrogate:
    """Return the surrogate `1` everywhere, by Bengio, Léonard & Courville, arXiv:1308.3432 (2013).

    Examples:
        >>> straight_through().derivative(jnp.array([-9.0, 9.0]))
        Array([1., 1.], dtype=float32)
    """
    return Surrogate("straight_through", jnp.ones_like)


def leaky(slope: float = 0.1) -> Surrogate:
    """Return the surrogate `1` where `x > 0`, else `slope`, the derivative of a leaky ReLU; in snnTorch's text `LSO`.

    Examples:
        >>> leaky(0.1).derivative(jnp.array([-1.0, 0.0, 1.0]))
        Array([0.1, 0.1, 1. ], dtype=float32)
    """
    return _make("leaky", _leaky, slope=slope)


def _leaky(x: Array, slope: float) -> Array:
    return jnp.where(x > 0, 1.0, slope)


def sparse_fast_sigmoid(slope: float = 25.0, *, cutoff: float = 1.0) -> Surrogate:
    """Return the surrogate `1 / (slope |x| + 1)^2` where `x > cutoff`, else 0; snnTorch's `SFS`, with `B` for cutoff.

    After Perez-Nieves & Goodman, NeurIPS 2021. The default cutoff, snnTorch's, lets no gradient through
    below or near the threshold; a negative one does.

    Examples:
        >>> sparse_fast_sigmoid(25.0, cutoff=-0.2).derivative(jnp.array([-0.2, 0.0]))
        Array([0., 1.], dtype=float32)
    """
    return _make("sparse_fast_sigmoid", _sparse_fast_sigmoid, slope=slope, cutoff=cutoff)


def _sparse_fast_sigmoid(x: Array, slope: float, cutoff: float) -> Array:
    return jnp.where(x > cutoff, _superspike(x, slope), 0.0)


def spike_rate_escape(slope: float = 25.0, *, beta: float = 1.0) -> Surrogate:
    """Return the surrogate `slope exp(-beta |x - 1|)`, as in snnTorch; after Gerstner & Kistler, 2002.

    As there, the peak lies one unit above the threshold.

    Examples:
        >>> spike_rate_escape(25.0).derivative(jnp.array([1.0]))
        Array([25.], dtype=float32)
    """
    return _make("spike_rate_escape", _spike_rate_escape, slope=slope, beta=beta)


def _spike_rate_escape(x: Array, slope: float, beta: float) -> Array:
    return slope * jnp.exp(-beta * jnp.abs(x - 1))


def custom(derivative: Callable[[Array], Array]) -> Surrogate:
    """Return the surrogate with any derivative, a function from `x = v - threshold` [...] to [...] or a scalar.

    Two of them are equal when made from one function, so define the function once, outside the training step.
    Raises TypeError where `derivative` is not a function.

    Examples:
        >>> def quarter(x):
        ...     return jnp.where(jnp.abs(x) < 2, 0.25, 0)
        >>> jax.grad(custom(quarter))(1.0)
        Array(0.25, dtype=float32, weak_type=True)
    """
    if not callable(derivative):
        raise TypeError(f"derivative must be a function of x = v - threshold, got {derivative!r}")
    return Surrogate(getattr(derivative, "__name__", type(derivative).__name__), derivative)


def _make(name: str, formula: Callable[..., Array], **parameters: float | None) -> Surrogate:
    given = {key: value for key, value in parameters.items() if key != "height" or value is not None}
    return Surrogate(name, formula, tuple((key, _checked(key, value)) for key, value in given.items()))


def _checked(name: str, value: object) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a Python number, because surrogates are static, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) < 1e30:  # times a membrane it would overflow in float32
        raise ValueError(f"{name} must be finite and below 1e30, got {value}")
    if number <= 0 and name != "cutoff":
        raise ValueError(f"{name} must be > 0, got {value}")
    return number
