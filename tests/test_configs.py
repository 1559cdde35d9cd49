"""Every config: it says what it reaches, survives JSON, and its objects fit together."""

import dataclasses
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pydantic
import pytest
from flax import nnx

import jsnn
from experiments import build, config
from experiments.load import load_config
from experiments.parts import errors
from jsnn.data import Dataset

CONFIGS = sorted(Path(__file__).resolve().parents[1].glob("configs/[!_]*.py"))
SHAPES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "yin_yang": (4,),
}


def of_ten_classes(data):
    """Return a data set as that of an experiment, but empty."""
    if not isinstance(data, config.Recordings):
        return Dataset(np.zeros((10, *SHAPES[data.name]), np.uint8), np.arange(10))
    places = [-(-n // data.merge) for n in data.shape[:2]] if isinstance(data, config.Events) else [data.num_channels]
    shape = (10, data.length, *places, *(data.shape[2:] if isinstance(data, config.Events) else ()))
    return Dataset(np.zeros(shape, np.float32), np.arange(10), in_time=True, lengths=np.full(10, data.length))


TRAINED = [path for path in CONFIGS if not isinstance(load_config(str(path)), config.Gallery)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_named_as_its_file_and_survives_json(path):
    settings = load_config(str(path))
    assert settings.name == path.stem
    assert config.from_json(config.to_json(settings)) == settings


def test_the_example_of_own_parts_is_short():
    (path,) = [path for path in CONFIGS if path.stem == "own_network"]
    assert len(path.read_text("utf-8").splitlines()) < 60


@pytest.mark.rows(2)
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_loss_of_a_batch_has_the_metrics(path, training):
    experiment = load_config(str(path))
    for stage in experiment.stages if isinstance(experiment, config.Study) else (experiment,):
        dataset = of_ten_classes(stage.data)
        network = build.make_network(stage, dataset)
        loss = build.make_loss(stage, in_time=dataset.in_time, training=training)
        examples = jax.tree.map(jnp.asarray, dataset.rows(slice(4)))
        value, metrics = jax.eval_shape(loss, network, *examples, jax.random.key(0))
        assert value.shape == ()
        assert metrics["accuracy"].shape == (4,)
        assert {f"rate/{name}" for name in build.hidden_neurons(network)} < set(metrics)


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    "kind",
    [
        config.Direct,
        config.ConstantCurrent,
        config.SpikeLatencyLIF,
        config.Poisson,
        config.Rate,
        config.Latency,
        config.Delta,
        config.Burst,
        config.Phase,
        config.Population,
    ],
)
@pytest.mark.parametrize(
    "network", [config.Feedforward(), config.NorseRecurrent(), config.NorseConv()], ids=lambda part: part.kind
)
def test_every_encoder_works_with_every_network(kind, network):
    experiment = config.Experiment(num_steps=3, encoder=kind(), network=network)
    network = build.make_network(experiment, of_ten_classes(config.Data(name="mnist")))
    loss = build.make_loss(experiment, training=True)
    images, labels = jnp.zeros((2, 28, 28, 1), jnp.uint8), jnp.zeros(2, jnp.int32)
    assert jax.eval_shape(loss, network, images, labels, jax.random.key(0))[0].shape == ()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda neuron: neuron,
        lambda neuron: jsnn.Refractory(neuron, 1),
        lambda neuron: jsnn.Stochastic(neuron, jax.random.key(0)),
        lambda neuron: jsnn.Recurrent(neuron, jnp.tanh),
        lambda neuron: jsnn.Recurrent(jsnn.Refractory(neuron, 1), jnp.tanh),
    ],
)
def test_mean_rates_are_those_of_whole_layers(wrap):
    neuron, x = wrap(jsnn.LIF(0.9)), jnp.linspace(0.0, 2.0, 6).reshape(2, 3)
    network = build.with_mean_rates(jsnn.Sequential(neuron, jsnn.LI(0.9)), 5)
    assert [type(part).__name__ for part in network.layers] == ["MeanRate", "LI"]
    found = jsnn.unroll(network, x, num_steps=1)[1][0]
    np.testing.assert_allclose(found, jsnn.unroll(neuron, x, num_steps=5)[1].mean(0), rtol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        config.Feedforward(hidden=(5,)),
        config.Recurrent(hidden=(5,)),
        config.NorseRecurrent(hidden=5),
        config.SpikingResNet(channels=2),
        config.Spikformer(width=8, heads=1),
    ],
    ids=lambda part: part.kind,
)
def test_every_network_trains_with_mean_rates(network):
    experiment = config.Experiment(num_steps=3, network=network, train=config.Train(short_epochs=1, short_rates=True))
    network = build.make_network(experiment, of_ten_classes(config.Data(name="mnist")))
    loss = build.make_loss(experiment, training=True, rate_steps=3)
    images, labels = jnp.zeros((2, 28, 28, 1), jnp.uint8), jnp.zeros(2, jnp.int32)
    assert jax.eval_shape(loss, network, images, labels, jax.random.key(0))[0].shape == ()


@pytest.mark.rows(2)
@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup_cosine", "linear", "exponential"])
def test_every_schedule_starts_and_ends_as_it_says(schedule):
    settings = config.Optimizer(name="sgd", learning_rate=0.5, schedule=schedule, warmup=0.2)
    optimizer = settings.make(10)
    state = optimizer.init(jnp.zeros(()))
    rates = []
    for _ in range(11):
        update, state = optimizer.update(jnp.ones(()), state)
        rates.append(-float(update))
    assert max(rates) == pytest.approx(0.5)
    assert rates[0] == pytest.approx(0.0 if schedule == "warmup_cosine" else 0.5)
    assert rates[-1] == pytest.approx(0.5 if schedule == "constant" else 0.005 if schedule == "exponential" else 0.0)


def test_optimizer_options_and_clipping():
    settings = config.Optimizer(name="adamw", options={"weight_decay": 0.5}, learning_rate=1.0, clip_norm=1.0)
    optimizer = settings.make(10)
    update, _ = optimizer.update(jnp.zeros(()), optimizer.init(jnp.ones(())), jnp.ones(()))
    assert float(update) == pytest.approx(-0.5)
    clipped = config.Optimizer(name="sgd", learning_rate=1.0, clip_norm=1.0).make(10)
    update, _ = clipped.update(jnp.full((4,), 10.0), clipped.init(jnp.zeros(4)))
    assert float(jnp.linalg.norm(update)) == pytest.approx(1.0)


@pytest.mark.slow
def test_muon_turns_kernels_into_orthogonal_matrices():
    settings = config.Optimizer(name="muon", learning_rate=1.0, options={"consistent_rms": 0.2, "weight_decay": 0.0})
    optimizer = settings.make(10)
    gradients = {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 6)), "bias": jnp.arange(1.0, 7.0)}
    update, _ = jax.jit(optimizer.update)(gradients, optimizer.init(gradients), gradients)
    lengths = jnp.linalg.svd(update["kernel"].reshape(36, 6) / (0.2 * 36**0.5), compute_uv=False)
    assert 0.6 < lengths.min() <= lengths.max() < 1.3  # five steps of Newton and Schulz come as close as that to 1
    assert float(jnp.ptp(update["bias"])) < 1e-5  # Adam takes steps of one size


def test_muon_is_optax_s():
    gradients = {"kernel": jax.random.normal(jax.random.key(0), (8, 4)), "bias": jnp.arange(1.0, 5.0)}
    ours, theirs = (
        jax.jit(optimizer.update)(gradients, optimizer.init(gradients), gradients)[0]
        for optimizer in (
            config.Optimizer(name="muon", options={"ns_steps": 3}).make(10),
            optax.contrib.muon(1e-3, ns_steps=3),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    with pytest.raises(ValueError, match=r"whole number from 1 to 100, got 2\.5"):
        config.Optimizer(name="muon", options={"ns_steps": 2.5}).make(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "neurons"),
    [
        (config.Feedforward(hidden=(5,)), 5),
        (config.SpikingResNet(depth=(1,), channels=2), 3 * 4 * 4 * 2),  # behind the stem and in the block
        (config.Spikformer(width=4, heads=2, pool=(True, True)), 4 * 4 * 2 + 2 * 2 * (4 + 4 + 3 * 4 + 4 + 4 + 16 + 4)),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_the_rate_penalty_enters_the_loss(network, neurons):
    base = config.Experiment(num_steps=4, network=network)
    penalised = dataclasses.replace(base, objective=config.Objective(rate_penalty=2.0, rate_target=0.25))
    network = build.make_network(base, of_ten_classes(config.Data()))
    images, labels = jnp.zeros((3, 8, 8, 1), jnp.uint8), jnp.zeros(3, jnp.int32)
    values = [
        build.make_loss(e, training=False)(network, images, labels, jax.random.key(0))[0] for e in (base, penalised)
    ]
    assert float(values[1] - values[0]) == pytest.approx(2.0 * neurons * 0.25**2)  # all silent, averaged over images


@pytest.mark.parametrize("encoder", [config.Latency(), config.Burst(), config.Phase()], ids=lambda e: e.kind)
def test_encoders_of_the_unit_interval_refuse_standardised_images(encoder):
    for data in (config.Data(mean=(0.13,)), config.Data(std=(0.3,))):
        with pytest.raises(ValueError, match=rf"encoder '{encoder.kind}' needs pixels in \[0, 1\], got data.mean"):
            config.Experiment(encoder=encoder, data=data)


def test_each_pixel_of_a_phase_code_adds_up_to_its_value():
    images = jnp.array([[[[0.0], [0.625], [0.25]]]])
    inputs = config.Phase(num_phases=4).make(8)(jax.random.key(0), images)
    assert (inputs[:4].sum(0) == images).all()


def test_populations_are_channels():
    images = jnp.full((1, 2, 3, 2), 0.5)
    encoder = config.Population(num_neurons=5)
    spikes = encoder.make(400)(jax.random.key(0), images)
    assert spikes.shape == (400, 1, *encoder.shape((2, 3, 2)))
    assert spikes[..., 2].mean() == 1  # the middle of five fields, at its centre


def test_a_config_of_an_earlier_version_is_read():
    text = '{"model": {"kind": "rate_dense"}, "objective": {"decoder": "last"}, "data": {"name": "digits"}}'
    expected = config.Experiment(network=config.RateDense(), objective=config.Objective(decoder=config.Last()))
    assert config.from_json(text) == expected


def test_unknown_encoder_is_refused():
    with pytest.raises(ValueError, match="encoder"):
        config.from_json(config.to_json(config.Experiment()).replace('"kind": "direct"', '"kind": "morse"'))


def leaves(cls, prefix=""):
    """The path and the type of every field of a class of settings and of the parts that it can have."""
    for name, hint in errors.fields([cls]).items():
        inner = errors.classes_in(hint)
        for part in inner:
            yield from leaves(part, f"{prefix}{name}.")
        if not inner:
            yield f"{prefix}{name}", cls, name, hint


FIELDS = {
    (cls.__name__, name): (cls, hint)
    for kind in (config.Experiment, config.Gallery, config.Study)
    for _, cls, name, hint in leaves(kind)
}
HOSTILE = [math.inf, -math.inf, math.nan, 1e39, 1e-45, 2**32, -(2**32), 2**63, 10**400, "a\0", "\ud800", "line\nbreak"]


@pytest.mark.parametrize(("owner", "name"), FIELDS)
def test_what_a_field_accepts_survives_json(owner, name):
    cls, _ = FIELDS[owner, name]
    adapter = pydantic.TypeAdapter(cls)
    needed = {"name": "study", "stages": (config.Experiment(),)} if cls is config.Study else {}
    for value in HOSTILE:
        for candidate in (value, (value,), ((value,),), {"some": value}, {value: 1.0}):
            refused = ""
            try:
                made = cls(**needed | {name: candidate})
            except ValueError as error:
                refused = str(error)
            if refused:
                assert name in refused
                assert "\n" not in refused
            else:
                assert adapter.validate_json(adapter.dump_json(made)) == made


@pytest.mark.parametrize(
    "settings",
    [
        config.Experiment(seed=2**32 - 1, optimizer=config.Optimizer(options={"é☃": 2e-38}, clip_norm=3e38)),
        config.Experiment(name="[bold] 'x' \"", learning_rates=(0.1, 1e-30), reference={"a b/c": -0.1}),
        config.Experiment(network=config.SpikingDense(v_init=0.1), data=config.Data(mean=(1 / 3, -0.0), std=(1e-7, 1))),
        config.Gallery(signal=(0.1, 1e30, -1e-30)),
        config.Study(name="two", stages=(config.Experiment(name="a"), config.Experiment(name="b", seed=1))),
    ],
)
def test_what_is_accepted_survives_json(settings):
    assert config.from_json(config.to_json(settings)) == settings


def test_a_part_of_a_class_of_ones_own_survives_json(monkeypatch):
    monkeypatch.setattr(config.Network, "kinds", dict(config.Network.kinds))

    class Deep(config.Feedforward):
        depth: int = 3

    experiment = config.Experiment(network=Deep(depth=5))
    assert '"kind": "deep"' in config.to_json(experiment)
    assert config.from_json(config.to_json(experiment)) == experiment
    assert config.has_own_parts(experiment)
    assert not config.has_own_parts(config.Experiment())
    with pytest.raises(ValueError, match="there is a kind 'rate_dense' already: give the class RateDense another name"):

        class RateDense(config.Network):
            def make(self, inputs, outputs, rngs): ...


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": {"epochz": 3}}', "there is no field 'train.epochz': did you mean 'epochs'?"),
        ('{"network": {"kind": "feedforward", "hidden": [3, 0]}}', "network.hidden.1 must be greater than 0, got 0"),
        ('{"network": {"kind": "feedforwrd"}}', "network.kind must be one of 'feedforward', 'recurrent', "),
        ('{"network": {}}', "network.kind is missing"),
        (
            '{"network": {"kind": "rate_dense", "hiden": 3}}',
            "no field 'network.hiden': did you mean 'hidden'?",
        ),
        ('{"network": 3}', "network must be one of the kinds 'feedforward', 'recurrent', "),
        ('{"objective": {"decoder": "lst"}}', "objective.decoder.kind must be one of 'max_over_time', 'last', "),
        ('{"train": 3}', "train must be a dictionary or an instance of Train, got 3"),
        ('{"optimizer": {"options": {"b1": "x"}}}', "optimizer.options.b1 must be a valid number"),
        ('{"train": {"epochs": 0, "batch_size": 0}}', "(and train.batch_size is wrong too)"),
        ('{"seed": 4294967296}', "seed must be at most 4294967295, got 4294967296"),
        ('{"seed": 4294967295, "seeds": 2}', "seed + seeds - 1 must be at most 4294967295, got 4294967295 + 2 - 1"),
        ('{"learning_rates": [1, 1]}', "learning_rates must not hold a value twice"),
        ('{"train": {"patience": 2}}', "train.patience needs data.validation_split"),
        ('{"objective": {"dt_end": 0.1}}', "objective.dt_end needs a network with a dt, got 'feedforward'"),
        ('{"network": {"kind": "rate_dense"}, "encoder": {"kind": "population"}}', "leave encoder at 'direct'"),
        ('{"network": {"kind": "rate_dense"}, "train": {"gradient": "eventprop"}}', "train.gradient 'eventprop' needs"),
        ('{"train": {"gradient": "exact"}}', "train.gradient must be 'surrogate' or 'eventprop'"),
        (
            '{"train": {"gradient": "eventprop", "short_epochs": 1, "short_rates": true}}',
            "no gradients of rates, got train.short_rates = True",
        ),
        (
            '{"train": {"gradient": "eventprop"}, "objective": {"rate_penalty": 0.1}}',
            "no gradients of rates, got objective.rate_penalty = 0.1",
        ),
        ('{"stages": [], "name": "none"}', "the stages of a study need names of their own, got []"),
        ('{"optimizer": {"clip_norm": Infinity}}', "optimizer.clip_norm must be a finite number, got inf"),
        ("[" * 10_000, "recursion limit exceeded"),
    ],
)
def test_a_mistake_is_one_line(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        config.from_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["adam", "adamw", "nadam", "rmsprop", "rprop", "sgd", "yogi", "adafactor", "sm3", "muon"]
)
def test_optimisers_of_optax(name):
    assert config.Optimizer(name=name).make(10)


@pytest.mark.parametrize(
    "name",
    [
        *("", "_src", "adamm", "chain", "contrib", "clip", "identity", "inject_hyperparams", "lbfgs", "masked"),
        *("MultiSteps", "Schedule", "apply_updates", "lookahead", "polyak_sgd", "scale_by_adam", "scale_by_rprop"),
    ],
)
def test_what_is_no_optimiser(name):
    with pytest.raises(ValueError, match=rf"^optimizer.name must be an optimiser of optax, got '{name}': \w.*"):
        config.Optimizer(name=name).make(10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b1": 2.0}, "optimizer.options: b1 must be in [0, 1), got 2.0"),
        ({"b2": 1.0}, "optimizer.options: b2 must be in [0, 1), got 1.0"),
        ({"eps": -1.0}, "optimizer.options: eps must be >= 0, got -1.0"),
        ({"mu_dtype": 1.0}, "optax.adam cannot run with optimizer.options {'mu_dtype': 1.0}: TypeError"),
        ({"b": 0.5}, "got 'b': did you mean 'b"),
    ],
)
def test_options_of_an_optimiser_are_checked(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config.Optimizer(options=options).make(10)


def test_a_delayed_network_without_delays_has_no_schedule():
    part = config.Delayed(hidden=(4,), max_delay=(0,))
    network = part.make((3,), 2, nnx.Rngs(0))
    assert part.at_step(network, 0, 10) is network
