"""The ready networks: SpikingJelly's numbers for its weights, and their errors."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from golden import draw_weights

import jsnn
from jsnn import models, surrogate
from jsnn.compat import spikingjelly

GOLDEN = np.load(Path(__file__).parent / "data" / "spikingjelly_models.npz")


def lif_node(**parameters):
    """SpikingJelly's neuron with its arctan surrogate, as in its residual networks."""
    return spikingjelly.lif_node(surrogate_function=surrogate.arctan(2.0), detach_reset=True, **parameters)


MODELS = {
    "sew_resnet18": lambda rngs: models.spiking_resnet(18, neuron=lif_node, rngs=rngs),
    "sew_resnet50": lambda rngs: models.spiking_resnet(50, connect="iand", neuron=lif_node, rngs=rngs),
    "ms_resnet": lambda rngs: models.spiking_resnet(
        (1, 2, 1),
        form="ms",
        stem="small",
        channels=16,
        strides=(2, 2, 2),
        outputs=10,
        neuron=lambda: lif_node(tau=4 / 3, v_threshold=0.5, decay_input=False),
        rngs=rngs,
    ),
    "spikformer": lambda rngs: models.spikformer(
        neuron=lif_node, attention_neuron=lambda: lif_node(v_threshold=0.5), rngs=rngs
    ),
}


@pytest.mark.filterwarnings("ignore:weights are taken in the order")  # in both the one of definition
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_spikingjelly_s_weights_give_its_logits(name):
    shapes = json.loads(str(GOLDEN[f"{name}.shapes"]))
    image = np.random.default_rng(1).normal(size=GOLDEN[f"{name}.image_shape"])  # [B, C, H, W]
    with jax.enable_x64(True):  # no membrane crosses its threshold by rounding
        network = MODELS[name](nnx.Rngs(0))
        network, _ = jsnn.weights.from_torch(network, draw_weights(shapes), image.transpose(0, 2, 3, 1).shape[1:])
        network.eval()
        _, logits = jax.jit(lambda network, x: jsnn.unroll(network, x, num_steps=4))(
            network, image.transpose(0, 2, 3, 1)
        )
    logits, expected = np.asarray(logits), GOLDEN[f"{name}.logits"]
    np.testing.assert_allclose(logits if expected.ndim == 3 else logits.mean(0), expected, atol=1e-9)
