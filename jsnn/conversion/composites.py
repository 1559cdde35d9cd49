"""Finds what several operations are a part of: a layer norm, a function of JAX. For names in reports alone."""

from collections.abc import Collection

from jsnn.program import Operation, Path, Program

_CALLED = {"clip", "norm"}  # functions of jax.numpy that are calls in the program
_OF_VARIANCE = (
    "add", "broadcast_in_dim", "convert_element_type", "div", "max", "mul", "reduce_sum", "reshape", "squeeze", "sub",
    "select_n",
)  # fmt: skip


def whole_of(program: Program, operation: Operation) -> tuple[str, Path]:
    """Return the name of the function of JAX that an operation is a part of, and where that is called."""
    for length in range(1, len(operation.path)):
        name = program.calls.get(operation.path[:length], "")
        if name in _CALLED:
            return name, operation.path[:length]
    return {"reduce_window_max": "max_pool", "reduce_max": "max"}.get(operation.name, operation.name), ()


def normalizations(program: Program, dependent: Collection[int]) -> dict[tuple[str, Path], set[int]]:
    """Return the operations of each division by a standard deviation, by name and place."""
    producers = program.producers()
    found: dict[tuple[str, Path], set[int]] = {}
    for index, operation in enumerate(program.operations):
        if operation.name not in ("rsqrt", "sqrt") or operation.outputs[0] not in dependent:
            continue
        members, squares, subtracts = {index}, False, False
        to_visit = [atom for atom in operation.inputs if atom in producers]
        while to_visit:
            at = producers[to_visit.pop()]
            part = program.operations[at]
            is_square = part.name in ("square", "integer_pow") or (part.name == "mul" and len(set(part.inputs)) == 1)
            squares |= is_square
            subtracts |= part.name == "sub"
            if is_square:
                members.add(at)
                made_by = producers.get(part.inputs[0])  # type: ignore[arg-type]
                subtracts |= made_by is not None and program.operations[made_by].name == "sub"
            elif part.name in _OF_VARIANCE and at not in members:
                members.add(at)
                to_visit += [atom for atom in part.inputs if atom in producers and atom in dependent]
        if not squares:
            continue
        scaled, divides = set(operation.outputs), False
        for at, part in enumerate(program.operations[index:], index):  # up to the product with the value itself
            if scaled.isdisjoint(part.inputs):
                continue
            both = sum(atom in dependent for atom in part.inputs) > 1 and part.name in ("mul", "div")
            members.add(at)
            divides |= both
            if not both:
                scaled |= set(part.outputs)
        if not divides:
            continue
        found[("layer norm" if subtracts else "rms norm", (index,))] = members
    return found
