"""The cases by name, and the options that each of them takes."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.benchmark import (
    brunel,
    cifar10_conversion,
    delays,
    encode,
    fc_lif,
    latency,
    long,
    mnist_conv,
    mnist_recurrent,
    online,
    recurrent,
    repairs,
    shapes,
    zoo,
)
from experiments.benchmark.peers import check_name
from experiments.benchmark.side import Comparison, Setting

CASES: dict[str, Callable[..., Iterator[Comparison]]] = {
    "fc_lif": fc_lif.comparisons,
    "mnist_conv": mnist_conv.comparisons,
    "mnist_recurrent": mnist_recurrent.comparisons,
    "cifar10_conversion": cifar10_conversion.comparisons,
    "encode": encode.comparisons,
    "delays": delays.comparisons,
    "long": long.comparisons,
    "zoo": zoo.comparisons,
    "latency": latency.comparisons,
    "shapes": shapes.comparisons,
    "repairs": repairs.comparisons,
    "brunel": brunel.comparisons,
    "online": online.comparisons,
    "recurrent": recurrent.comparisons,
}
IN_BFLOAT16 = ("fc_lif", "mnist_conv", "zoo")  # the others know float32 and TF32 alone


def comparisons(names: Sequence[str], setting: Setting, options: Mapping[str, Any]) -> Iterator[tuple[str, Comparison]]:
    """Return the comparisons of some cases, checked now and each made when its turn has come.

    Each case is given its own options.

    Raises:
        ValueError: if a case is not known or not in the setting's precision, or an option is of use to none of them.
    """
    for name in names:
        check_name("case", name, CASES)
        if setting.precision == "bf16" and name not in IN_BFLOAT16:
            raise ValueError(f"precision bf16 is for the cases {', '.join(IN_BFLOAT16)}, not for {name}")
    taken = {name: own_options(name, options) for name in names}
    for option in options:
        if not any(option in chosen for chosen in taken.values()):
            able = [name for name in CASES if option in options_of(name)]
            raise ValueError(
                f"--{option.replace('_', '-')} is for {', '.join(able)}, and means nothing to {', '.join(names)}"
            )
    return ((name, comparison) for name in names for comparison in CASES[name](setting, **taken[name]))


def own_options(case: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that a case has."""
    return {option: value for option, value in options.items() if option in options_of(case)}


def options_of(case: str) -> dict[str, Any]:
    """Return a case's options and their defaults."""
    parameters = inspect.signature(CASES[case]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
