"""Training steps of all configs, and the ready networks, lower for GPUs and TPUs on a machine that has none."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from test_configs import TRAINED, of_ten_classes

import jsnn
from experiments import build, config
from experiments.load import load_config
from jsnn import models, train

PLATFORMS = ["cuda", "tpu"]
STAGES = [
    pytest.param(stage, id=f"{path.stem}-{stage.name}")
    for path in TRAINED
    for settings in [load_config(str(path))]
    for stage in (settings.stages if isinstance(settings, config.Study) else (settings,))
]


def lower(function, *arguments):
    """Return the program of a function for each platform."""
    traced = jax.jit(function).trace(*arguments)
    return {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in PLATFORMS}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", STAGES)
def test_the_training_step_of_every_config(experiment):
    dataset = of_ten_classes(experiment.data)
    network = build.make_network(experiment, dataset)
    loss = build.make_loss(experiment, in_time=dataset.in_time, training=True)
    optimizer = experiment.optimizer.make(10)
    graph, state = train.create(network, optimizer)
    step = train.make_step(graph, loss, optimizer, build.make_schedule(experiment, 10))
    lowered = lower(step, state, jax.tree.map(jnp.asarray, dataset.rows(slice(4))), jax.random.key(0))
    assert all("stablehlo" in text for text in lowered.values())


X32, X28 = jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, 28, 28, 1))
MODELS = {
    "feedforward": (lambda rngs: models.feedforward([784, 64, 10], rngs=rngs), X28),
    "norse_conv": (lambda rngs: models.norse_conv(rngs=rngs), X28),
    "norse_recurrent": (lambda rngs: models.norse_recurrent(rngs=rngs), X28),
    "adaptive_recurrent": (lambda rngs: models.adaptive_recurrent([784, 64, 10], rngs=rngs), X28.reshape(2, -1)),
    "delayed_feedforward": (
        lambda rngs: models.delayed_feedforward([784, 64, 10], max_delay=5, rngs=rngs),
        X28.reshape(2, -1),
    ),
    "sew_resnet18": (lambda rngs: models.spiking_resnet(18, rngs=rngs), jnp.zeros((2, 64, 64, 3))),
    "ms_resnet": (lambda rngs: models.spiking_resnet((1, 1), form="ms", stem="small", rngs=rngs), X32),
    "spiking_vgg": (lambda rngs: models.spiking_vgg(11, image_shape=(32, 32, 3), rngs=rngs), X32),
    "spikformer": (lambda rngs: models.spikformer(rngs=rngs), X32),
    "converted": (
        lambda rngs: jsnn.convert(models.rate_conv(rngs=rngs), X32, swap={jax.nn.relu: jsnn.IF()}),
        X32,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_ready_network(name):
    make, x = MODELS[name]
    network = make(nnx.Rngs(0))
    if isinstance(network, nnx.Module):
        network.eval()

    def total(network, x):
        return jsnn.unroll(network, x, num_steps=8)[1].sum()

    lowered = lower(jax.grad(total, allow_int=True), network, x)
    assert all("stablehlo" in text for text in lowered.values())


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "ottt", "sltt", "decolle"])
@pytest.mark.parametrize("make", [models.feedforward, models.adaptive_recurrent], ids=["feedforward", "recurrent"])
def test_every_online_rule(make, rule):
    network = make([6, 5, 3], rngs=nnx.Rngs(0))
    learner = jsnn.online.Learner(network, jsnn.losses.cross_entropy, optax.adam(1e-3), rule=rule)
    learn = jsnn.online.gradient(network, jsnn.losses.cross_entropy, rule=rule)
    x, labels = jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32)
    for function, arguments in (
        (lambda x, labels: learn(network, x, labels, num_steps=8), (x, labels)),
        (learner.step, (learner.init((2, 6)), x, labels)),
    ):
        assert all("stablehlo" in text for text in lower(function, *arguments).values())
