"""Arguments by another library's names, or misspelt: an error that names the one which is meant."""

import difflib
import functools
import inspect
import re
from collections.abc import Iterable
from typing import Any

# names for one and the same parameter, in jsnn and in other libraries
_SYNONYMS = (
    ("decay", "beta", "tau_mem_inv"),
    ("decay_syn", "alpha", "tau_syn_inv"),
    ("threshold", "v_threshold", "v_th", "vth", "thresh", "spike_threshold"),
    ("v_rest", "v_leak"),
    ("v_init", "initial_voltage", "v_initial"),
    ("surrogate", "spike_grad", "surrogate_function", "spike_fn", "surrogate_grad_fn"),
    ("reset", "reset_mechanism", "reset_fn"),
    ("tau_mem", "tau_rc", "tau"),
    ("tau_adaptation", "tau_n"),
    ("adaptation", "inc_n"),
    ("num_steps", "timesteps", "time_steps", "n_steps", "T"),
)
_NO_HIDDEN_STATE = "no state is hidden, jsnn.unroll(neuron, inputs) carries it"
_TRAINED = "what is passed as nnx.Param(...) is trained, as in LIF(decay=nnx.Param(jnp.array(0.9)))"
_CURES = {
    "init_hidden": _NO_HIDDEN_STATE,
    "output": _NO_HIDDEN_STATE,
    "step_mode": "jsnn.unroll(neuron, inputs) takes all steps, neuron.step(state, x) one",
    "store_v_seq": "jsnn.record(neuron, inputs) returns the states of all steps",
    "learn_beta": _TRAINED,
    "learn_alpha": _TRAINED,
    "learn_threshold": _TRAINED,
    "seed": "pass key=jax.random.key(seed), or rngs=nnx.Rngs(seed) to layers",
}


def check_keywords(owner: Any, given: Iterable[str]) -> None:
    """Raise TypeError, with the name that is meant, if a function or class is given an argument that it does not have.

    Args:
        owner: the function or class.
        given: the names of the arguments given by name.
    """
    known = _keywords_of(owner)
    if known is None or known.issuperset(given):
        return
    name = next(name for name in given if name not in known)
    meant = [other for group in _SYNONYMS if name in group for other in group if other in known]
    meant = meant or difflib.get_close_matches(name, sorted(known), n=1)
    if name in _CURES:
        cure = f": {_CURES[name]}"
    elif "from_time_constants" in dir(owner) and re.match("tau|dt$|time_step$", name):
        cure = f": time constants go to {owner.__name__}.from_time_constants(...)"
    else:
        cure = f": did you mean {meant[0]!r}?" if meant else f": it has {', '.join(sorted(known))}"
    raise TypeError(f"{owner.__name__}() got an unexpected keyword argument {name!r}{cure}")


@functools.cache
def _keywords_of(owner: Any) -> frozenset[str] | None:
    """Return the names of the arguments of a function or class; None if it takes any."""
    function: Any = getattr(owner, "__init__") if isinstance(owner, type) else owner  # noqa: B009
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in named) - {"self", "cls"}
