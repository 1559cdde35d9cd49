"""The surrogates against their formulas in float64 and against the peers' golden vectors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import surrogate as sg

X = np.concatenate([np.linspace(-3, 3, 121), np.linspace(-0.1, 0.1, 41)])  # float64; 0 is among them

# surrogate, its derivative by the formula in its docstring
FORMULAS = [
    (sg.superspike(), lambda x: 1 / (100 * abs(x) + 1) ** 2),
    (sg.superspike(10, height=0.3), lambda x: 0.3 / (10 * abs(x) + 1) ** 2),
    (sg.fast_sigmoid(), lambda x: 1 / (25 * abs(x) + 1) ** 2),
    (sg.arctan(), lambda x: 1 / (1 + (np.pi * x) ** 2)),
    (sg.arctan(5.0), lambda x: 2.5 / (1 + (np.pi / 2 * 5 * x) ** 2)),
    (sg.arctan(5.0, height=1.0), lambda x: 1 / (1 + (np.pi / 2 * 5 * x) ** 2)),
    (sg.sigmoid(), lambda x: 25 * np.exp(-25 * x) / (1 + np.exp(-25 * x)) ** 2),
    (sg.sigmoid(4.0, height=0.5), lambda x: 2 * np.exp(-4 * x) / (1 + np.exp(-4 * x)) ** 2),
    (sg.tanh(), lambda x: 1 / np.cosh(x) ** 2),
    (sg.tanh(3.0, height=2.0), lambda x: 2 / np.cosh(3 * x) ** 2),
    (sg.logistic(2.0), lambda x: 1 / np.cosh(2 * x) ** 2),
    (sg.circ(), lambda x: (1 + x**2) ** -1.5),
    (sg.circ(4.0, height=0.5), lambda x: 0.5 * (1 + 16 * x**2) ** -1.5),
    (sg.triangular(), lambda x: np.maximum(0, 1 - abs(x))),
    (sg.triangular(2.0), lambda x: 2 * np.maximum(0, 1 - 2 * abs(x))),
    (sg.triangular(2.0, height=0.3), lambda x: 0.3 * np.maximum(0, 1 - 2 * abs(x))),
    (sg.boxcar(), lambda x: 1.0 * (abs(x) < 0.5)),
    (sg.boxcar(4.0), lambda x: 4.0 * (abs(x) < 0.125)),
    (sg.boxcar(0.5, height=3.0), lambda x: 3.0 * (abs(x) < 1)),
    (sg.gaussian(), lambda x: 2 / np.sqrt(2 * np.pi) * np.exp(-((2 * x) ** 2) / 2)),
    (sg.gaussian(3.0, height=0.3), lambda x: 0.3 * np.exp(-((3 * x) ** 2) / 2)),
    (sg.erf(), lambda x: 2 / np.sqrt(np.pi) * np.exp(-((2 * x) ** 2))),
    (sg.erf(3.0, height=0.3), lambda x: 0.3 * np.exp(-((3 * x) ** 2))),
    (sg.straight_through(), np.ones_like),
    (sg.leaky(), lambda x: np.where(x > 0, 1, 0.1)),
    (sg.leaky(0.5), lambda x: np.where(x > 0, 1, 0.5)),
    (sg.sparse_fast_sigmoid(), lambda x: (x > 1) / (25 * abs(x) + 1) ** 2),
    (sg.sparse_fast_sigmoid(5.0, cutoff=-0.2), lambda x: (x > -0.2) / (5 * abs(x) + 1) ** 2),
    (sg.spike_rate_escape(), lambda x: 25 * np.exp(-abs(x - 1))),
    (sg.spike_rate_escape(10, beta=2.0), lambda x: 10 * np.exp(-2 * abs(x - 1))),
    (sg.custom(lambda x: 2 * x), lambda x: 2 * x),
    (sg.custom(lambda x: 0.5), lambda x: np.full_like(x, 0.5)),
    (sg.custom(lambda x: x > 0), lambda x: 1.0 * (x > 0)),
]
SURROGATES = pytest.mark.parametrize("spike", list({s.formula: s for s, _ in FORMULAS}.values()), ids=repr)

FACTORIES_WITH_HEIGHT = [
    sg.superspike, sg.fast_sigmoid, sg.arctan, sg.sigmoid, sg.tanh, sg.logistic, sg.circ, sg.triangular,
    sg.boxcar, sg.gaussian, sg.erf,
]  # fmt: skip
FACTORIES_WITH_SLOPE = [*FACTORIES_WITH_HEIGHT, sg.leaky, sg.sparse_fast_sigmoid, sg.spike_rate_escape]

NORSE_ALPHAS = (0.3, 1.0, 10.0, 80.0, 100.0)
NORSE = [
    *[(f"tanh_a{a}", sg.tanh(a)) for a in NORSE_ALPHAS],
    *[(f"logistic_a{a}", sg.logistic(a)) for a in NORSE_ALPHAS],
    *[(f"circ_a{a}", sg.circ(1 / a)) for a in NORSE_ALPHAS],
    *[(f"circ_dist_a{a}", sg.circ(1 / a)) for a in NORSE_ALPHAS],
    *[(f"heavi_erfc_a{a}", sg.erf(a, height=2 / math.sqrt(math.pi))) for a in NORSE_ALPHAS],
    *[(f"triangle_a{a}", sg.triangular(1.0, height=a)) for a in NORSE_ALPHAS],
]
GOLDEN = [
    *[("norse_surrogates", key, spike) for key, spike in NORSE],  # the git head differs in "super" alone
    *[("norse_surrogates", f"super_a{a}", sg.superspike(1.0)) for a in NORSE_ALPHAS],  # alpha is ignored
    *[("norsehead_surrogates", f"super_a{a}", sg.superspike(a)) for a in NORSE_ALPHAS],
    ("snntorch_surrogates", "fast_sigmoid", sg.fast_sigmoid()),
    ("snntorch_surrogates", "fast_sigmoid_s10", sg.fast_sigmoid(10)),
    ("snntorch_surrogates", "atan", sg.arctan()),
    ("snntorch_surrogates", "atan_a5", sg.arctan(5)),
    ("snntorch_surrogates", "sigmoid", sg.sigmoid()),
    ("snntorch_surrogates", "sigmoid_s5", sg.sigmoid(5)),
    ("snntorch_surrogates", "straight_through_estimator", sg.straight_through()),
    ("snntorch_surrogates", "SFS", sg.sparse_fast_sigmoid()),
    ("snntorch_surrogates", "SFS_s25_Bm0.2", sg.sparse_fast_sigmoid(25, cutoff=-0.2)),
    ("snntorch_surrogates", "SFS_s5_B0.5", sg.sparse_fast_sigmoid(5, cutoff=0.5)),
    ("snntorch_surrogates", "spike_rate_escape", sg.spike_rate_escape()),
    ("snntorch_surrogates", "spike_rate_escape_b2_s10", sg.spike_rate_escape(10, beta=2)),
    ("snntorch_surrogates", "heaviside", sg.custom(lambda x: x > 0)),
    ("sj_surrogates", "PiecewiseQuadratic", sg.triangular()),
    ("sj_surrogates", "PiecewiseQuadratic_a2.0", sg.triangular(2.0)),
    ("sj_surrogates", "Sigmoid", sg.sigmoid(4.0)),
    ("sj_surrogates", "Sigmoid_a1.0", sg.sigmoid(1.0)),
    ("sj_surrogates", "Sigmoid_a10.0", sg.sigmoid(10.0)),
    ("sj_surrogates", "SoftSign", sg.superspike(2.0, height=1.0)),
    ("sj_surrogates", "SoftSign_a4.0", sg.superspike(4.0, height=2.0)),
    ("sj_surrogates", "SuperSpike", sg.superspike(1.0)),
    ("sj_surrogates", "SuperSpike_a10.0", sg.superspike(1.0, height=10.0)),
    ("sj_surrogates", "ATan", sg.arctan()),
    ("sj_surrogates", "ATan_a5.0", sg.arctan(5.0)),
    ("sj_surrogates", "Erf", sg.erf()),
    ("sj_surrogates", "Erf_a4.0", sg.erf(4.0)),
    ("sj_surrogates", "Rect", sg.boxcar()),
    ("sj_surrogates", "Rect_a2.0", sg.boxcar(2.0)),
    ("sj_surrogates", "DeterministicPass", sg.straight_through()),
]  # fmt: skip


@jax.jit(static_argnums=0)
def gradient(spike, x):
    return jax.grad(lambda x: spike(x).sum())(x)


@pytest.mark.rows(8)
@pytest.mark.parametrize(("spike", "formula"), FORMULAS, ids=[repr(spike) for spike, _ in FORMULAS])
def test_formula(spike, formula):
    with jax.enable_x64(True):
        ours = gradient(spike, X)
        assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, formula(X), rtol=1e-12, atol=1e-300)


@pytest.mark.rows(8)
@pytest.mark.parametrize(("stem", "key", "spike"), GOLDEN)
def test_golden_vectors(parity, stem, key, spike):
    vectors = parity(stem)
    # s (1 - s) and 1 - tanh^2 cancel in the peers' tails: hence their float64, and the absolute tolerance
    np.testing.assert_allclose(gradient(spike, vectors["grid"]), vectors[f"grad_{key}_f64"], rtol=1e-4, atol=1e-14)


@pytest.mark.parametrize(
    ("stem", "key", "inclusive"),
    [
        ("norse_surrogates", "super", False),
        ("snntorch_surrogates", "atan", False),
        ("sj_surrogates", "ATan", True),  # SpikingJelly spikes at the tie; jsnn does not
    ],
)
def test_golden_spikes(parity, stem, key, inclusive):
    vectors = parity(stem)
    x = vectors["grid"]
    theirs = vectors[f"fwd_{key}_f32"] * (x != 0) if inclusive else vectors[f"fwd_{key}_f32"]
    np.testing.assert_array_equal(sg.arctan()(x), theirs)


@pytest.mark.rows(8)
@SURROGATES
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_strict_heaviside_dtype_and_extreme_inputs(spike, dtype):
    tiny = float(jnp.finfo(dtype).tiny)
    x = jnp.array([-1e30, -1e4, -tiny, -0.0, 0.0, tiny, 1e4, 1e30], dtype)
    spikes, derivative = spike(x), gradient(spike, x)
    assert spikes.dtype == derivative.dtype == dtype
    np.testing.assert_array_equal(spikes.astype(jnp.float32), [0, 0, 0, 0, 0, 1, 1, 1])
    assert np.isfinite(derivative.astype(jnp.float32)).all()


@pytest.mark.rows(2)
@SURROGATES
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(spike, dtype):
    x = jnp.asarray([0.0, 0.01, 0.3, 2.6, 7.0, 40.0, 3000.0, jnp.inf], dtype)  # (100 * 2.6)^2 is beyond float16
    x = jnp.concatenate([x, -x])
    expected = spike.derivative(x.astype(jnp.float32)).astype(dtype)
    np.testing.assert_array_equal(spike.derivative(x), expected)
    assert spike.derivative(x).dtype == dtype
    bounded = np.isfinite(x) | (spike.name != "<lambda>")  # 2 x, a formula of one's own, is infinite at infinity
    assert np.isfinite(expected[bounded].astype(jnp.float32)).all()


@pytest.mark.parametrize("spike", [sg.arctan(), sg.boxcar(), sg.leaky(), sg.custom(lambda x: 0.5)], ids=repr)
def test_every_transform_gives_the_derivative(spike):
    x = jnp.asarray(X, jnp.float32).reshape(2, 81)

    def scanned(x):
        return jax.lax.scan(lambda total, row: (total + spike(row).sum(), None), 0.0, x)[0]

    @jax.jit
    def differentiate(x):
        return {
            "forward mode": jax.jvp(spike, (x,), (jnp.ones_like(x),))[1],
            "reverse mode": jax.grad(lambda x: spike(x).sum())(x),
            "vmap": jax.vmap(jax.vmap(jax.grad(spike)))(x),
            "remat": jax.grad(lambda x: jax.checkpoint(spike)(x).sum())(x),
            "scan": jax.grad(scanned)(x),
        }

    derivative = spike.derivative(x)
    assert derivative.dtype == jnp.float32
    for how, result in differentiate(x).items():
        np.testing.assert_allclose(result, derivative, rtol=1e-5, atol=1e-30, err_msg=how)
    np.testing.assert_array_equal(jax.jit(spike)(x), spike(x))


def test_derivative_takes_numbers_and_integers():
    assert sg.arctan().derivative(0) == 1.0
    np.testing.assert_array_equal(sg.leaky().derivative(jnp.array([-1, 1])), jnp.array([0.1, 1.0]))


@pytest.mark.rows(4)
@pytest.mark.parametrize("factory", FACTORIES_WITH_HEIGHT)
def test_height_is_the_derivative_at_zero_and_slope_narrows(factory):
    assert factory(3.0, height=0.7).derivative(0.0) == pytest.approx(0.7, rel=1e-6)
    wide, narrow = factory(1.0, height=1.0), factory(4.0, height=1.0)
    np.testing.assert_allclose(narrow.derivative(X / 4), wide.derivative(X), rtol=1e-4, atol=1e-6)


@pytest.mark.rows(2)
@pytest.mark.parametrize("factory", [sg.arctan, sg.sigmoid, sg.triangular, sg.boxcar, sg.gaussian, sg.erf])
def test_unit_area(factory):
    x = np.linspace(-500, 500, 400_001)
    for slope in (1.0, 4.0):
        assert np.trapezoid(factory(slope).derivative(x), x) == pytest.approx(
            1, rel=1.1e-2
        )  # arctan's tails are heavy, boxcar's edges coarse


def test_equal_arguments_give_equal_surrogates():
    assert sg.arctan(2) == sg.arctan(np.float32(2.0)) == sg.arctan()
    assert hash(sg.arctan(2)) == hash(sg.arctan())
    distinct = {spike for spike, _ in FORMULAS}
    assert len(distinct) == len(FORMULAS)
    assert sg.superspike(25.0) != sg.fast_sigmoid(25.0)

    def slope(x):
        return x

    assert sg.custom(slope) == sg.custom(slope)


def test_an_equal_surrogate_does_not_compile_again():
    traced = []

    @jax.jit(static_argnums=0)
    def spikes(spike, x):
        traced.append(spike)
        return spike(x)

    for slope in (2.0, 2.0, 3.0):
        spikes(sg.arctan(slope), jnp.ones(3))
    assert traced == [sg.arctan(2.0), sg.arctan(3.0)]


@pytest.mark.parametrize(
    ("spike", "text", "slope"),
    [
        (sg.arctan(), "arctan(slope=2.0)", 2.0),
        (sg.triangular(1, height=0.3), "triangular(slope=1.0, height=0.3)", 1.0),
        (sg.sparse_fast_sigmoid(), "sparse_fast_sigmoid(slope=25.0, cutoff=1.0)", 25.0),
        (sg.straight_through(), "straight_through()", None),
        (sg.custom(jnp.cos), "cos()", None),
    ],
)
def test_repr_and_slope(spike, text, slope):
    assert repr(spike) == text
    assert spike.slope == slope


def test_surrogates_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sg.arctan().name = "other"


@pytest.mark.parametrize("factory", FACTORIES_WITH_SLOPE)
@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (0, ValueError, "slope must be > 0, got 0"),
        (-1.0, ValueError, "slope must be > 0, got -1.0"),
        (math.inf, ValueError, "slope must be finite and below 1e30, got inf"),
        (math.nan, ValueError, "slope must be finite and below 1e30, got nan"),
        (1e300, ValueError, r"slope must be finite and below 1e30, got 1e\+300"),
        (None, TypeError, "slope must be a Python number.*got None"),
        ("2", TypeError, "slope must be a Python number.*got '2'"),
        (True, TypeError, "slope must be a Python number.*got True"),
        (jnp.ones(()), TypeError, "slope must be a Python number"),
    ],
)
def test_bad_slopes(factory, slope, error, message):
    with pytest.raises(error, match=message):
        factory(slope)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        *[
            (lambda f=factory: f(1.0, height=-0.5), ValueError, "height must be > 0, got -0.5")
            for factory in FACTORIES_WITH_HEIGHT
        ],
        (lambda: sg.spike_rate_escape(beta=0.0), ValueError, "beta must be > 0, got 0.0"),
        (lambda: sg.sparse_fast_sigmoid(cutoff=math.nan), ValueError, "cutoff must be finite and below 1e30, got nan"),
        (lambda: sg.sparse_fast_sigmoid(cutoff=None), TypeError, "cutoff must be a Python number.*got None"),
        (lambda: sg.custom(2.0), TypeError, "derivative must be a function of x = v - threshold, got 2.0"),
        (lambda: jax.grad(sg.custom(lambda x: None))(1.0), ValueError, r"shape of x, \(\), got None"),
        (lambda: sg.custom(lambda x: x[:2]).derivative(jnp.ones(3)), ValueError, r"x, \(3,\), got shape \(2,\)"),
    ],
)
def test_bad_parameters(call, error, message):
    with pytest.raises(error, match=message):
        call()
