"""The ready networks: SpikingJelly's numbers for its weights, and their errors."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import draw_weights

import jsnn
from jsnn import data, models, surrogate
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


TRAINED = ["sew_resnet_cifar10", "spikformer_cifar10"]


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_tells_what_it_is(name):
    found = models.pretrained(name)
    assert 0 < found.accuracy < 1
    assert found.num_steps == found.config["num_steps"] == 4
    assert Path(models.__file__).with_name("weights").joinpath(f"{name}.safetensors").stat().st_size <= 3e6
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(found.prepare(images), found.prepare(images / np.float32(255)), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_is_as_good_as_it_says(name, data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    found, test = models.pretrained(name), data.load("cifar10", "test[:1000]")

    @jax.jit
    def answers(images):
        return jsnn.unroll(found.network, found.prepare(images), num_steps=found.num_steps)[1].mean(0).argmax(-1)

    batches = [slice(start, start + 500) for start in range(0, len(test), 500)]
    right = [np.asarray(answers(test.images[batch])) == test.labels[batch] for batch in batches]
    assert abs(np.mean(right) - found.accuracy) < 0.04  # three standard errors of 1,000 images


@pytest.mark.parametrize("make", [
    lambda rngs: models.spiking_resnet((1,), channels=0, rngs=rngs),
    lambda rngs: models.spiking_resnet((1,), channels=2, outputs=0, rngs=rngs),
    lambda rngs: models.spiking_resnet((1,), channels=2, inputs=0, rngs=rngs),
    lambda rngs: models.spiking_vgg([[2]], image_shape=(2, 2, 1), outputs=0, rngs=rngs),
    lambda rngs: models.spiking_vgg([[2]], image_shape=(2, 2, 1), dense=[0], rngs=rngs),
    lambda rngs: models.spiking_vgg([[0]], image_shape=(2, 2, 1), rngs=rngs),
    lambda rngs: models.spikformer(2, 1, heads=1, pool=[True], outputs=0, rngs=rngs),
    lambda rngs: models.spikformer(2, 1, heads=1, pool=[True], hidden=0, rngs=rngs),
])  # fmt: skip
def test_an_empty_layer_is_refused(make):
    with pytest.raises(ValueError, match="a layer must have at least 1 input and 1 output, got "):
        nnx.eval_shape(lambda: make(nnx.Rngs(0)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.spiking_resnet(np.array([1, 1]), channels=4, outputs=3, rngs=nnx.Rngs(0)),
        lambda: models.spikformer(8, 1, heads=2, pool=np.array([True, True]), rngs=nnx.Rngs(0)),
    ],
    ids=["blocks", "pooling"],
)
def test_numbers_may_come_in_an_array(make):
    assert isinstance(nnx.eval_shape(make), jsnn.Network)


@pytest.mark.parametrize(("name", "known"), [
    ("form", "'sew' or 'ms'"), ("connect", "'add', 'and' or 'iand'"), ("stem", "'large', 'small' or 'pooled'"),
])  # fmt: skip
def test_a_form_of_another_name_is_refused(name, known):
    with pytest.raises(ValueError, match=f"{name} must be {known}, got 'SEW'"):
        models.spiking_resnet((1,), **{name: "SEW"}, rngs=nnx.Rngs(0))


SMALL = {
    "resnet": lambda rngs: models.spiking_resnet((1,), stem="pooled", channels=2, outputs=2, rngs=rngs),
    "vgg": lambda rngs: models.spiking_vgg([[2]], image_shape=(4, 4, 3), dense=[2], outputs=2, rngs=rngs),
    "spikformer": lambda rngs: models.spikformer(4, 1, heads=2, pool=[True], outputs=2, rngs=rngs),
}


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_images_of_another_shape_are_refused(make):
    for shape, message in {
        (4, 4, 3): r"takes \[B, \*space, C\] at each time step, 4",
        (1, 4, 4, 1): "3 channels",
    }.items():
        with pytest.raises(ValueError, match=message):
            jsnn.unroll(make(nnx.Rngs(0)), jnp.ones(shape), num_steps=2)


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_an_empty_batch_gives_empty_logits(make):
    network = make(nnx.Rngs(0))
    network.eval()
    assert jax.eval_shape(lambda x: jsnn.unroll(network, x)[1], jnp.zeros((3, 0, 4, 4, 3))).shape == (3, 0, 2)


def test_a_neuron_where_one_is_to_be_made_is_refused():
    with pytest.raises(TypeError, match=r"neuron must be a function, got LIF\(.*: give what makes the neuron, as in l"):
        models.feedforward([2, 3, 2], neuron=jsnn.LIF(0.9), rngs=nnx.Rngs(0))
    assert isinstance(models.feedforward([2, 3, 2], neuron=jsnn.LIF, rngs=nnx.Rngs(0)).layers[2], jsnn.LIF)


def test_a_trained_network_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of sew_resnet_cifar10.*got 'resnet'"):
        models.pretrained("resnet")
