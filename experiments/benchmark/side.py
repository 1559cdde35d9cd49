"""What a benchmark is made of: comparisons of sides that do the same thing, each in its own way."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax

Role: TypeAlias = Literal["jsnn", "floor", "peer", "other"]
Details: TypeAlias = Callable[[float], Mapping[str, float]]  # (median seconds) -> further columns of the table


class Side(NamedTuple):
    """One way to do what a comparison is about."""

    run: Callable[[], Any]  # does it once, to the end; returns arrays or numbers, which must be finite
    role: Role = "jsnn"  # "floor" is the least that any side must do; times are given as multiples of its
    compile_seconds: float | None = None  # None: what the first call took more than the others
    memory_bytes: int | None = None  # at its peak, arguments and results included; None where unknown
    moved_bytes: int = 0  # the least that one run reads and writes; 0 where the comparison is not about them
    details: Details = lambda seconds: {}


class Comparison(NamedTuple):
    """Sides that are run alternately; the first is jsnn's."""

    title: str
    sides: Mapping[str, Side]
    notes: tuple[str, ...] = ()  # what was checked before, and what differs


class Setting(NamedTuple):
    """What all cases of one call share."""

    device: jax.Device
    peers: tuple[str, ...] = ()  # those to run, all of them installed
    precision: str = "float32"


class Program(NamedTuple):
    """A function compiled for its arguments."""

    call: Callable[..., Any]
    compile_seconds: float
    memory_bytes: int | None


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compiles a function of arrays, and says how long that took and what memory a call takes at its peak.

    A function that is jitted already keeps what was said there, such as which arguments are donated.
    """
    jitted = function if isinstance(function, jax.stages.Wrapped) else jax.jit(function)
    start = time.perf_counter()
    program = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    plan = program.memory_analysis()
    if plan is None:
        return Program(program, seconds, None)
    between = plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return Program(program, seconds, plan.argument_size_in_bytes + plan.output_size_in_bytes + between)


def jax_side(function: Callable[..., Any], *arguments: Any, role: Role = "jsnn", **fields: Any) -> Side:
    """Return the side that calls a function, compiled, with always the same arguments."""
    program = compiled(function, *arguments)
    return Side(
        lambda: jax.block_until_ready(program.call(*arguments)),
        role,
        program.compile_seconds,
        program.memory_bytes,
        **fields,
    )


def check_batches(examples: int, batch_size: int) -> None:
    """Raise ValueError if the examples do not fill a batch."""
    if not 1 <= batch_size <= examples:
        raise ValueError(f"batch_size must be from 1 to the number of examples, {examples}, got {batch_size}")
