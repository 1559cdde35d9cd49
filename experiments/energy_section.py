"""The section of a run's page, and the files beside it, that say what an inference takes and might cost."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from experiments import figures
from experiments.loop import Run
from experiments.observe import Subject, compare_energy
from experiments.page import Page
from jsnn.energy import Comparison, Complexity, Operations

_METRICS = {
    "neurons": "neurons",
    "steps": "steps",
    "dense": "synaptic operations, zeros included (dense)",
    "effective_macs": "effective multiply-accumulates (MACs)",
    "effective_acs": "effective accumulates (ACs)",
    "activation_sparsity": "activation sparsity",
    "connection_sparsity": "connection sparsity",
    "footprint_bytes": "footprint",
}
_CAUTION = (
    "The joules are estimates: operations and neuron updates, each times what was published for one device "
    "(KerasSpiking's ModelEnergy). They leave out fetching weights and states from memory, which is most of what a "
    "CPU or GPU spends; moving spikes between cores; static power; and encoding the input. A chip's numbers are of one "
    "process node and of its makers' workload, the CPU's and GPU's of hardware of 2013 and 2014, and none need hold "
    "for this network. Read the ratio of two networks on one device, not the joules, and no ratio of two devices."
)


def add(page: Page, run: Run, subject: Subject) -> None:
    """The network beside its rate twin; also leaves `energy.csv` and `figures/energy.png` in the run's folder."""
    compared = compare_energy(run, subject)
    figure = figures.energy(compared)
    _keep(run.folder / "energy.csv", compared.csv().encode())
    _keep(run.folder / "figures" / "energy.png", _png(figure))
    page.section("Energy")
    page.text(_what_it_is(run, compared))
    page.table(
        [{"for one image": label} | _column(compared, metric) for metric, label in _METRICS.items()],
        "By the definitions of NeuroBench: effective are operations in which neither input nor weight is 0; where the "
        "inputs are spikes a weight is only added (AC). Sparsities are shares of zeros, among the outputs of the "
        "neurons and among the weights. The footprint is of parameters and neuron states. What a static image passes "
        "before the first neuron counts once.",
    )
    page.figure(
        figure,
        "Estimates of the energy for one image. A device that is not made for spikes steps through the spiking "
        "network, all connections at every step.",
        "Energy of one image by device",
    )
    page.text(_CAUTION)
    for one in compared.networks:
        page.table(_rows(one.operations), f"The weights of the {one.name} network.")


def _what_it_is(run: Run, compared: Comparison) -> str:
    if len(compared.networks) == 1:
        return "This is a rate network, which has no spikes: it stands alone."
    if run.experiment.conversion is not None:
        return "The spiking network, and the rate network that it was converted from."
    return (
        "The spiking network, and its rate twin: the same layers run once, with a multiply-accumulate for every "
        "connection. Nobody has trained the twin; how many of its activations would be 0 is not known, and none is "
        "taken to be."
    )


def _column(compared: Comparison, metric: str) -> dict[str, str]:
    return {one.name: _text(metric, one) for one in compared.networks}


def _text(metric: str, one: Complexity) -> str:
    value = one.values()[metric]
    if value is None:
        return "not known"
    if metric.endswith("sparsity"):
        return f"{value:.1%}"
    return EngFormatter("B", places=1)(value) if metric == "footprint_bytes" else f"{value:,.0f}"


def _rows(operations: Operations) -> list[dict[str, object]]:
    return [
        {
            "weights": row.weights,
            "passes": row.steps,
            "dense": f"{row.dense:,}",
            "effective": f"{row.effective:,.0f}",
            "kind": "AC" if row.accumulates else "MAC",
            "inputs not 0": f"{row.nonzero_inputs:.1%}",
        }
        for row in operations.synapses
    ]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _keep(path: Path, data: bytes) -> None:
    """Writes a file, unless it holds the same already: to make a page again changes nothing else."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
