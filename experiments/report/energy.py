"""The section of a run's page that says what an inference takes and might cost."""

from matplotlib.ticker import EngFormatter

from experiments.evaluation import NetworkEnergy
from experiments.files import as_csv
from experiments.report import figures
from experiments.report.page import Page
from jsnn import plot

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


def add(page: Page, networks: list[NetworkEnergy], *, is_converted: bool) -> None:
    """Add the network beside its rate twin, and the file `energy.csv` with a line for each."""
    page.section("Energy", _what_it_is(len(networks), is_converted))
    page.table(
        [
            {"for one example": label} | {one.name: _text(metric, one.metrics[metric]) for one in networks}
            for metric, label in _METRICS.items()
        ],
        "By the definitions of NeuroBench: effective are operations in which neither input nor weight is 0; where the "
        "inputs are spikes a weight is only added (AC). Sparsities are shares of zeros, among the outputs of the "
        "neurons and among the weights. The footprint is of parameters and neuron states. The layers before the first "
        "neuron count once where the input is static.",
    )
    page.figure(
        "energy",
        figures.draw(plot.energy, {one.name: one.joules for one in networks}, height=3.9),
        "Estimates of the energy for one example. A device that is not made for spikes steps through the spiking "
        "network, all connections at every step.",
        "Energy of one example by device",
    )
    page.text(_CAUTION)
    for one in networks:
        page.table(one.weights, f"The weights of the {one.name} network.")
    page.file("energy.csv", as_csv([{"network": one.name, **one.metrics} for one in networks]).encode())


def _what_it_is(networks: int, is_converted: bool) -> str:
    if networks == 1:
        return "This is a rate network, which has no spikes: it stands alone."
    if is_converted:
        return "The spiking network, and the rate network that it was converted from."
    return (
        "The spiking network, and its rate twin: the same layers run once, with a multiply-accumulate for every "
        "connection. Nobody has trained the twin; how many of its activations would be 0 is not known, and none is "
        "taken to be."
    )


def _text(metric: str, value: float | None) -> str:
    if value is None:
        return "not known"
    if metric.endswith("sparsity"):
        return f"{value:.1%}"
    return EngFormatter("B", places=1)(value) if metric == "footprint_bytes" else f"{value:,.0f}"
