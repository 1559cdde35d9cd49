"""What all of `jsnn.compat` shares: other libraries' class names lead to the presets, and to nothing of jsnn's own."""

import pytest

from jsnn import compat

NAMES = {
    "norse": {
        "LIF": "lif", "LIFCell": "lif", "LIFBoxCell": "lif_box", "IAF": "iaf", "IAFCell": "iaf",
        "LIFRefracCell": "lif_refrac", "LIFEx": "lif_ex", "LIFExCell": "lif_ex", "LIFAdEx": "lif_adex",
        "LIFAdExCell": "lif_adex", "LSNN": "lsnn", "LSNNCell": "lsnn", "LI": "li", "LICell": "li",
        "LILinearCell": "li_linear", "LIFRecurrent": "lif_recurrent", "LIFRecurrentCell": "lif_recurrent",
    },
    "snntorch": {
        "Leaky": "leaky", "Lapicque": "lapicque", "Synaptic": "synaptic", "RLeaky": "rleaky",
        "RSynaptic": "rsynaptic", "Alpha": "alpha",
    },
    "spikingjelly": {
        "IFNode": "if_node", "LIFNode": "lif_node", "ParametricLIFNode": "parametric_lif_node",
        "QIFNode": "qif_node", "EIFNode": "eif_node", "IzhikevichNode": "izhikevich_node",
    },
    "nengo": {
        "SpikingRectifiedLinear": "spiking_rectified_linear", "RegularSpiking": "regular_spiking",
        "StochasticSpiking": "stochastic_spiking", "PoissonSpiking": "poisson_spiking", "LIF": "lif",
        "AdaptiveLIF": "adaptive_lif", "Izhikevich": "izhikevich", "Lowpass": "lowpass", "Alpha": "alpha",
        "Triangle": "triangle",
    },
    "keras_spiking": {
        "SpikingActivation": "spiking_activation", "Lowpass": "lowpass", "Alpha": "alpha", "L1": "l1", "L2": "l2",
        "L1L2": "l1l2", "Percentile": "percentile",
    },
}  # fmt: skip


@pytest.mark.parametrize("library", NAMES)
def test_class_names_lead_to_the_presets(library):
    module = getattr(compat, library)
    for name, preset in NAMES[library].items():
        assert getattr(module, name) is getattr(module, preset), name
    neurons = [name for name, found in vars(module).items() if isinstance(found, type) and hasattr(found, "step")]
    # no class of jsnn's, which has other defaults, goes by a name that may be the other library's
    assert set(neurons) <= {"Neuron", "Recurrent"}
