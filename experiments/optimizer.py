"""The optimiser of a run: one that optax has, with its options, its schedule and clipping."""

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from experiments import config
from experiments.config.errors import nearest
from jsnn import rounding
from jsnn.types import Array


def _axes_of_kernels(params: Any) -> Any:
    """The kernels that Muon turns into orthogonal matrices, with their axes: inputs first, neurons last."""

    def axes(array: Array) -> Any:
        return optax.contrib.MuonDimensionNumbers(tuple(range(array.ndim - 1)), array.ndim - 1)

    return jax.tree.map(lambda array: axes(array) if array.ndim > 1 else None, params)


_MUON = functools.partial(optax.contrib.muon, muon_weight_dimension_numbers=_axes_of_kernels)
# what is kept of a moving average each step
_BELOW_ONE = ("adam_b1", "adam_b2", "b1", "b2", "b3", "beta", "decay", "decay_rate", "momentum", "rho")


def make_optimizer(settings: config.Optimizer, total_steps: int) -> optax.GradientTransformation:
    """Return the optax optimiser, its schedule spread over `total_steps`; the learning rate is part of its state.

    Raises:
        ValueError: if optax has no such optimiser, it does not take these options, or it cannot run with them.
    """
    factory = _factory(settings.name)
    taken = list(inspect.signature(factory).parameters)[1:]
    for name, value in settings.options.items():
        if name not in taken:
            raise ValueError(
                f"optimizer.options must be arguments of optax.{settings.name} ({', '.join(taken)}), "
                f"got {name!r}{nearest(name, taken)}"
            )
        if value < 0 or (name in _BELOW_ONE and value >= 1):
            wanted = "in [0, 1)" if name in _BELOW_ONE else ">= 0"
            raise ValueError(f"optimizer.options: {name} must be {wanted}, got {value}")
    error = _fault(factory, settings.options)
    if error is not None:
        raise ValueError(f"optax.{settings.name} cannot run with optimizer.options {settings.options}: {error}")
    shares: dict[str, optax.Schedule] = {  # of the learning rate
        "cosine": optax.cosine_decay_schedule(1.0, total_steps),
        "warmup_cosine": optax.warmup_cosine_decay_schedule(
            0.0, 1.0, max(1, int(rounding.floor(settings.warmup * total_steps))), max(2, total_steps)
        ),
        "linear": optax.linear_schedule(1.0, 0.0, total_steps),
        "exponential": optax.exponential_decay(1.0, total_steps, 0.01),
    }
    share = shares.get(settings.schedule)

    def at(learning_rate: Array) -> optax.GradientTransformation:
        rate = learning_rate if share is None else lambda step: learning_rate * share(step)
        optimizer = factory(rate, **settings.options)
        if settings.clip_norm is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(settings.clip_norm), optimizer)

    return optax.inject_hyperparams(at, hyperparam_dtype=jnp.float32)(settings.learning_rate)


def _factory(name: str) -> Any:
    """The function of optax that makes the optimiser of this name."""
    if not _is_optimizer(name):
        known = [one for one in (*dir(optax), "muon") if _is_optimizer(one)]
        hint = nearest(name, known) or f": known are {', '.join(known)}"
        raise ValueError(f"optimizer.name must be an optimiser of optax, got {name!r}{hint}")
    return _named(name)


def _named(name: str) -> Any:
    return _MUON if name == "muon" else getattr(optax, name, None)


@functools.cache  # an error looks at every name that optax has
def _is_optimizer(name: str) -> bool:
    """Whether optax has a function of this name from a learning rate to what turns gradients alone into updates."""
    factory = _named(name)
    if not isinstance(factory, types.FunctionType | functools.partial) or name.startswith(("_", "scale_by_")):
        return False
    return next(iter(inspect.signature(factory).parameters), "") == "learning_rate" and _fault(factory, {}) is None


def _fault(factory: Callable[..., optax.GradientTransformation], options: dict[str, float]) -> str | None:
    """What an optimiser raises in its first step, if anything."""

    def step(values: dict[str, Array]) -> Any:
        optimizer = factory(0.1, **options)
        return optimizer.update(values, optimizer.init(values), values)

    try:
        with warnings.catch_warnings(action="ignore"):  # the step that is taken in training warns again
            jax.eval_shape(step, {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
    except Exception as error:  # optax and JAX raise what they meet first, of any type
        return f"{type(error).__name__}: {error}"
    return None
