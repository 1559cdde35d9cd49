"""The optimiser of a run: one that optax has, with its options, its schedule and clipping."""

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any, Literal

import pydantic
from pydantic import PositiveFloat

from experiments.parts.base import Part, Share
from experiments.parts.errors import nearest

# what is kept of a moving average each step
_BELOW_ONE = ("adam_b1", "adam_b2", "b1", "b2", "b3", "beta", "decay", "decay_rate", "momentum", "rho")


class Optimizer(Part):
    """Any optimiser and schedule that optax has; a subclass has a `make` of its own."""

    name: str = "adam"
    """Name of an optimiser in optax, or "muon", which is in optax.contrib."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate, or the schedule's first or highest one."""
    options: dict[str, float] = pydantic.Field(default_factory=dict)
    """Further arguments of the optimiser, such as weight_decay 1e-4."""
    schedule: Literal["constant", "cosine", "warmup_cosine", "linear", "exponential"] = "constant"
    """How the learning rate goes over the whole run; the last four end at or near 0."""
    warmup: Share = 0.05
    """Share of the run over which warmup_cosine rises."""
    delay_factor: PositiveFloat = 1.0
    """Factor on the learning rate of delays, which are counted in steps and have further to go than weights.

    A weight_decay pulls delays towards 0, too, this many times as strongly.
    """
    clip_norm: PositiveFloat | None = None
    """Largest global norm of the gradients; None for no clipping."""

    def make(self, total_steps: int) -> Any:
        """Return the optax optimiser, its schedule spread over `total_steps`; the learning rate is part of its state.

        Raises:
            ValueError: if optax has no such optimiser, it does not take these options, or it cannot run with them.
        """
        import jax
        import optax

        factory = _factory(self.name)
        self._check_options(factory)
        share = self._schedule(total_steps)

        def at(learning_rate: Any) -> Any:
            rate = learning_rate if share is None else lambda step: learning_rate * share(step)
            parts = [factory(rate, **self.options)]
            if self.delay_factor != 1:
                parts.append(optax.masked(optax.scale(self.delay_factor), _are_delays))
            if self.clip_norm is not None:
                parts.insert(0, optax.clip_by_global_norm(self.clip_norm))
            return parts[0] if len(parts) == 1 else optax.chain(*parts)

        return optax.inject_hyperparams(at, hyperparam_dtype=jax.numpy.float32)(self.learning_rate)

    def _check_options(self, factory: Any) -> None:
        taken = list(inspect.signature(factory).parameters)[1:]
        for name, value in self.options.items():
            if name not in taken:
                raise ValueError(
                    f"optimizer.options must be arguments of optax.{self.name} ({', '.join(taken)}), "
                    f"got {name!r}{nearest(name, taken)}"
                )
            if value < 0 or (name in _BELOW_ONE and value >= 1):
                wanted = "in [0, 1)" if name in _BELOW_ONE else ">= 0"
                raise ValueError(f"optimizer.options: {name} must be {wanted}, got {value}")
        error = _fault(factory, self.options)
        if error is not None:
            raise ValueError(f"optax.{self.name} cannot run with optimizer.options {self.options}: {error}")

    def _schedule(self, total_steps: int) -> Any:
        """Return the share of the learning rate by the step; None for all of it."""
        import optax

        from jsnn import rounding

        rise = max(1, int(rounding.floor(self.warmup * total_steps)))
        shares = {
            "cosine": lambda: optax.cosine_decay_schedule(1.0, total_steps),
            "warmup_cosine": lambda: optax.warmup_cosine_decay_schedule(0.0, 1.0, rise, max(2, total_steps)),
            "linear": lambda: optax.linear_schedule(1.0, 0.0, total_steps),
            "exponential": lambda: optax.exponential_decay(1.0, total_steps, 0.01),
        }
        return shares[self.schedule]() if self.schedule in shares else None


def _axes_of_kernels(params: Any) -> Any:
    """Return the kernels that Muon turns into orthogonal matrices, with their axes: inputs first, neurons last."""
    import jax
    import optax

    def axes(array: Any) -> Any:
        return optax.contrib.MuonDimensionNumbers(tuple(range(array.ndim - 1)), array.ndim - 1)

    return jax.tree.map(lambda array: axes(array) if array.ndim > 1 else None, params)


def _muon() -> Any:
    """Return optax's Muon for kernels of any number of axes, which compiles its iterations as one loop."""
    import optax

    @functools.wraps(optax.contrib.muon)
    def muon(learning_rate: Any, ns_steps: float = 5, **options: Any) -> Any:
        if ns_steps not in range(1, 101):
            raise ValueError(f"ns_steps must be a whole number from 1 to 100, got {ns_steps}")
        once = inspect.signature(optax.contrib.muon).parameters["ns_coeffs"].default
        options |= {"ns_coeffs": (once,) * int(ns_steps), "muon_weight_dimension_numbers": _axes_of_kernels}
        return optax.contrib.muon(learning_rate, **options)

    return muon


def _are_delays(params: Any) -> Any:
    """Return which parameters are delays of synapses, by their names."""
    import jax

    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(getattr(key, "key", None) == "delay" for key in path), params
    )


def _factory(name: str) -> Any:
    """Return the function of optax that makes the optimiser of this name."""
    import optax

    factory = _find(name)
    if factory is None:
        known = [one for one in (*dir(optax), "muon") if _find(one) is not None]
        hint = nearest(name, known) or f": known are {', '.join(known)}"
        raise ValueError(f"optimizer.name must be an optimiser of optax, got {name!r}{hint}")
    return factory


@functools.cache  # an error looks at every name that optax has
def _find(name: str) -> Any:
    """Return the function of optax of this name, if it makes an optimiser of a learning rate alone; None if not."""
    import optax

    factory = _muon() if name == "muon" else getattr(optax, name, None)
    if not isinstance(factory, types.FunctionType | functools.partial) or name.startswith(("_", "scale_by_")):
        return None
    first = next(iter(inspect.signature(factory).parameters), "")
    return factory if first == "learning_rate" and _fault(factory, {}) is None else None


def _fault(factory: Callable[..., Any], options: dict[str, float]) -> str | None:
    """Return the error that an optimiser raises in its first step, as a text; None if it raises none."""
    import jax

    def step(values: dict[str, Any]) -> Any:
        optimizer = factory(0.1, **options)
        return optimizer.update(values, optimizer.init(values), values)

    try:
        with warnings.catch_warnings(action="ignore"):  # the step that is taken in training warns again
            jax.eval_shape(step, {"kernel": jax.numpy.ones((2, 2)), "bias": jax.numpy.ones(2)})
    except Exception as error:  # optax and JAX raise what they meet first, of any type
        return f"{type(error).__name__}: {error}"
    return None
