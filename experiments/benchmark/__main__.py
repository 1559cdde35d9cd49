"""Times jsnn beside another way to the same end, alternately in one process: `python -m experiments.benchmark [CASE]`.

    mnist_recurrent    an epoch of Norse's MNIST tutorial beside Norse's own: the same network and batches, encoder,
                       gradients and optimiser included, on images that both hold in memory. Needs the extra `peers`
                       (install torch first, see pyproject.toml).
    conversion         the network of NengoDL's CIFAR-10 tutorial, converted, for 30 steps with filters, beside 30
                       passes of the rate network.
    encode             MNIST into 100 steps, by rate and by latency, beside snnTorch's encoders (of the extra `peers`;
                       left out where missing) and beside a copy of as many bytes as there are spikes.

The first round warms up and is not counted. "CPU s" is what the process had of all cores, the lowest of the rounds,
and less disturbed by other programs; "times" tells how many times as long as another side a side took, by the medians.
For one core, start it with `taskset -c 0`.
"""

import argparse
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.benchmark import conversion, encode, recurrent
from experiments.benchmark.side import Side, threads

CASES = {  # with the examples and the batch size that they have unless told
    "mnist_recurrent": (recurrent.sides, 60_000, 256),
    "conversion": (conversion.sides, 64, 8),
    "encode": (encode.sides, 60_000, 250),
}


def main() -> None:
    """Times the sides of a case and prints them beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=CASES, default="mnist_recurrent")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--batch-size", type=int)
    options = parser.parse_args()
    make, examples, batch_size = CASES[options.case]
    examples = options.examples or examples
    sides = make(examples, options.batch_size or batch_size)
    wall, cpu = measure(sides, options.rounds)
    title = f"{options.case}, {examples} images, {threads()} threads, {options.rounds} rounds"
    Console(width=120).print(table(title, examples, sides, wall, cpu))


def measure(sides: dict[str, Side], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The seconds of each side in each round but the first: by the clock, and of all cores together."""
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, side in sides.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            value = side.run()
            if not np.isfinite(value):
                raise FloatingPointError(f"{name} ended round {round_number} with {value}")
            if round_number:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
    return wall, cpu


def table(
    title: str, examples: int, sides: dict[str, Side], wall: dict[str, list[float]], cpu: dict[str, list[float]]
) -> Table:
    """Medians, and their multiples of another side's; spikes and bytes a second where sides count them."""
    counts_spikes = any(side.spikes for side in sides.values())
    columns = ["median s", "lowest", "highest", "CPU s", "images/s"]
    columns += ["Gspikes/s", "GB/s"] * counts_spikes + ["times", "CPU times", "of"]
    shown = Table("", *columns, title=title)
    for name, side in sides.items():
        median, other = statistics.median(wall[name]), side.beside or next(iter(sides))
        numbers = [median, min(wall[name]), max(wall[name]), min(cpu[name]), examples / median]
        numbers += [side.spikes / median / 1e9, side.bytes / median / 1e9] * counts_spikes
        numbers += [median / statistics.median(wall[other]), min(cpu[name]) / min(cpu[other])]
        shown.add_row(name, *(f"{number:.2f}" for number in numbers), other)
    return shown


if __name__ == "__main__":
    main()
