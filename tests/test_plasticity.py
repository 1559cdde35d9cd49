"""Plastic synapses and their rules: golden vectors of Brian2, numbers by hand, and what holds for every rule."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import write_plasticity_goldens as brian2
from flax import nnx

import jsnn
from jsnn import plasticity
from jsnn.plasticity import STDP, Bounds, Plastic, RewardSTDP, ShortTerm, TripletSTDP

GOLDEN = np.load(Path(__file__).parent / "data/plasticity_brian2.npz")
T, B, I, N = 12, 2, 3, 4  # noqa: E741


@nnx.dataclass
class Hebb(plasticity.Rule):
    """A rule of a user, as in the docs."""

    rate: jsnn.types.Parameter = 0.1

    def update(self, weights, traces, pre, post):
        return weights + self.rate * pre[..., :, None] * post[..., None, :], traces


RULES = {
    "STDP": STDP(0.8, 0.7, potentiation=0.02, depression=0.03),
    "STDP nearest soft": STDP(
        0.8, 0.7, potentiation=0.02, depression=0.03, pairing="nearest", bounds=Bounds(softness=1)
    ),
    "TripletSTDP": TripletSTDP(0.8, 0.7, 0.9, 0.95, potentiation=0.02, potentiation_triplet=0.005),
    "RewardSTDP": RewardSTDP(0.8, 0.7, 0.9, 0.5),
    "Oja": plasticity.Oja(0.1, decay=0.5),
    "BCM": plasticity.BCM(0.1, 0.8, 0.5),
    "HomeostaticScaling": plasticity.HomeostaticScaling(0.2, 0.1, 0.8),
    "Normalization": plasticity.Normalization(2.0),
    "ShortTerm": ShortTerm(0.4, 0.9, 0.8),
    "FastWeights": plasticity.FastWeights(0.9, 0.2),
    "FastWeights delta": plasticity.FastWeights(0.9, 0.2, writes="delta"),
    "Chain": plasticity.Chain((ShortTerm(0.4, 0.9), RewardSTDP(0.8, 0.7), plasticity.Normalization(2.0))),
    "Hebb": Hebb(),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def draw(*shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


def spikes(*shape, seed=0, dtype=jnp.float32):
    return (draw(*shape, seed=seed) < 0.4).astype(dtype)


def inputs_for(rule, *lead, inside=True, dtype=jnp.float32):
    """What `Plastic` takes for a rule, for all steps `[*lead, ...]`."""
    given = {"input": spikes(*lead, I, dtype=dtype)}
    given |= {name: draw(*lead, seed=7).astype(dtype) - 0.2 for name in rule.factors}
    if rule.needs_post and not inside:
        given["post"] = spikes(*lead, N, seed=1, dtype=dtype)
    return given if len(given) > 1 else given["input"]


def make(rule, inside=True, **options):
    return Plastic(0.2 + 0.4 * draw(I, N, seed=2), rule, jsnn.LIF(0.9) if inside else None, **options)


def close(actual, expected, tolerance=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


# Brian2


def golden_rules():
    make_stdp = functools.partial(STDP.from_time_constants, **brian2.STDP, dt=brian2.DT)
    for pairing in ("all", "nearest"):
        for softness in (0.0, 0.5, 1.0):
            rule = make_stdp(pairing=pairing, bounds=Bounds(softness=softness))
            yield f"stdp.{pairing}.{softness}", rule
        yield f"triplet.{pairing}", TripletSTDP.from_time_constants(**brian2.TRIPLET, dt=brian2.DT, pairing=pairing)
    yield "reward_stdp", RewardSTDP.from_time_constants(**brian2.REWARD, dt=brian2.DT)
    for kind, numbers in brian2.SHORT_TERM.items():
        yield f"short_term.{kind}", ShortTerm.from_time_constants(**numbers, dt=brian2.DT)


@pytest.mark.parametrize(("name", "rule"), golden_rules())
def test_rules_are_those_of_brian2(name, rule):
    inputs = {"input": GOLDEN["pre"], "post": GOLDEN["post"], "reward": GOLDEN["reward"]}
    wanted = {"input", *rule.factors, *(["post"] if rule.needs_post else [])}
    with jax.enable_x64(True):
        plastic = Plastic(jnp.asarray(GOLDEN["weights"]), rule)
        inputs = {key: jnp.asarray(value, float) for key, value in inputs.items() if key in wanted}
        weights, currents = histories(plastic, inputs)
    found = currents if name.startswith("short_term") else weights
    assert np.ptp(GOLDEN[name]) > 0.1
    np.testing.assert_allclose(found, GOLDEN[name], rtol=0, atol=1e-9)


def histories(plastic, inputs):
    """The weights and the outputs of all steps."""

    def step(state, x):
        state, y = plastic.step(state, x)
        return state, (state.weights, y)

    state = plastic.init(jax.tree.map(lambda x: x.shape[1:], inputs), jax.tree.leaves(inputs)[0].dtype)
    return jax.lax.scan(step, state, inputs)[1]


# Every rule


@pytest.mark.rows(6)
@every_rule
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("lead", [(B,), (1,), (), (2, 2, 3)])
def test_steps_are_those_of_unroll(rule, inside, lead):
    plastic, inputs = make(rule, inside), inputs_for(rule, T, *lead, inside=inside)
    state = plastic.init(jax.tree.map(lambda x: x.shape[1:], inputs))
    assert state.weights.shape == (*lead, I, N)
    step, structure, outputs = jax.jit(plastic.step), jax.tree.map(jnp.shape, state), []
    for t in range(T):
        state, y = step(state, jax.tree.map(lambda x, t=t: x[t], inputs))
        assert jax.tree.map(jnp.shape, state) == structure
        outputs.append(y)
    close(jsnn.unroll(plastic, inputs), (state, jnp.stack(outputs)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.rows(3)
@every_rule
@pytest.mark.parametrize("inside", [True, False])
def test_samples_do_not_know_of_each_other(rule, inside):
    plastic, inputs = make(rule, inside), inputs_for(rule, T, B, inside=inside)
    whole = jsnn.unroll(plastic, inputs)
    run = jax.jit(functools.partial(jsnn.unroll, plastic))
    state, outputs = jax.vmap(run, in_axes=1, out_axes=(0, 1))(inputs)
    close((state, outputs), whole)


@every_rule
def test_shared_weights_change_by_the_mean_of_all_samples(rule):
    if isinstance(rule, plasticity.Chain):
        rule = dataclasses.replace(rule, rules=rule.rules[:2])  # what follows sees the mean, and is not linear in it
    own, shared = make(rule), make(rule, shared=True)
    inputs = inputs_for(rule, T, B)
    start = own.init(jax.tree.map(lambda x: x.shape[1:], inputs))
    busy = jsnn.unroll(own, inputs)[0]._replace(weights=start.weights)  # traces that are not 0
    x = jax.tree.map(lambda x: x[0], inputs)
    alone, y_alone = own.step(busy, x)
    together, y = shared.step(busy._replace(weights=start.weights[0]), x)
    assert together.weights.shape == (I, N)
    close((y, together.traces), (y_alone, alone.traces))
    close(together.weights, alone.weights.mean(0), 1e-4)  # soft bounds see the mean


@pytest.mark.rows(4)
@every_rule
@pytest.mark.parametrize("shared", [True, False])
def test_dtypes_are_kept(rule, shared):
    plastic, inputs = make(rule, shared=shared), inputs_for(rule, T, B, dtype=jnp.bfloat16)
    state, outputs = jsnn.unroll(plastic, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert outputs.dtype == jnp.bfloat16
    state = plastic.init(jax.tree.map(lambda x: x.shape[1:], inputs), jnp.bfloat16)
    state, outputs = jsnn.unroll(plastic, inputs, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("bfloat16")}


@every_rule
@pytest.mark.parametrize("lead", [(0, B), (T, 0)])
@pytest.mark.parametrize("shared", [True, False])
def test_nothing_changes_nothing(rule, lead, shared):
    plastic, inputs = make(rule, shared=shared), inputs_for(rule, *lead)
    state, outputs = jsnn.unroll(plastic, inputs)
    assert outputs.shape == (*lead, N)
    assert np.isfinite(state.weights).all()


def trained(rule):
    """The rule with an `nnx.Param` for each of its numbers."""
    if isinstance(rule, plasticity.Chain):
        return dataclasses.replace(rule, rules=tuple(map(trained, rule.rules)))
    numbers = {name: nnx.Param(jnp.asarray(getattr(rule, name), float)) for name in rule.per_neuron()}
    return dataclasses.replace(rule, **numbers)


@pytest.mark.rows(2)
@every_rule
def test_gradients_through_a_rule_are_finite_differences(rule):
    with jax.enable_x64(True):
        plastic = Plastic(0.2 + 0.6 * draw(I, N, seed=2), trained(rule), jsnn.LI(0.5, gain=0.2), learn_initial=True)
        inputs = jax.tree.map(lambda x: 0.3 * x.astype(float), inputs_for(rule, T, B))
        graph, params = nnx.split(plastic)

        @jax.jit
        def loss(params):
            state, outputs = jsnn.unroll(nnx.merge(graph, params), inputs)
            return jnp.sum(jnp.sin(3 * state.weights)) + jnp.sum(jnp.square(outputs))

        gradient = jax.jit(jax.grad(loss))(params)
        leaves, structure = jax.tree.flatten(params)
        for number, leaf in enumerate(leaves):
            direction = draw(*leaf.shape, seed=number) + 0.5
            if leaf.ndim == 0 and leaf == 0.0:
                continue  # a decay at its bound has a derivative to one side

            def at(step, number=number, direction=direction):
                moved = [x + step * direction if k == number else x for k, x in enumerate(leaves)]
                return loss(structure.unflatten(moved))

            numeric = (at(1e-6) - at(-1e-6)) / 2e-6
            analytic = jnp.sum(jax.tree.leaves(gradient)[number] * direction)
            np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-7)


# What a plastic synapse is part of


def test_teacher_spikes_go_to_the_rule_and_not_to_the_output():
    plastic, x, post = make(RULES["STDP"]), spikes(T, B, I), spikes(T, B, N, seed=1)
    free, _ = jsnn.unroll(plastic, x)
    taught, _ = jsnn.unroll(plastic, {"input": x, "post": post})
    outside, _ = jsnn.unroll(make(RULES["STDP"], inside=False), {"input": x, "post": post})
    close(taught.weights, outside.weights)
    assert not np.allclose(taught.weights, free.weights)


def test_a_reward_may_be_one_number_for_all():
    plastic, x = make(RULES["RewardSTDP"]), spikes(T, B, I)
    one, _ = jsnn.unroll(plastic, {"input": x, "reward": jnp.ones(T)})
    each, _ = jsnn.unroll(plastic, {"input": x, "reward": jnp.ones((T, B))})
    close(one, each)


def test_a_rule_takes_any_pytree_of_traces_and_one_weight_matrix_for_each_sample():
    x = spikes(T, B, I)
    by_hand = dataclasses.replace(make(Hebb()), shared=True)

    class WithOuter(Hebb):
        def update(self, weights, traces, pre, post):
            return weights + self.rate * plasticity.outer(pre, post, weights), traces

    close(jsnn.unroll(by_hand, x), jsnn.unroll(make(WithOuter(), shared=True), x))


@pytest.mark.parametrize("shared", [True, False])
def test_networks_with_plastic_layers_run_layer_by_layer(shared):
    network = jsnn.Sequential(
        jsnn.LIF(0.5), make(RULES["STDP"], shared=shared), nnx.Linear(N, 2, rngs=nnx.Rngs(0)), jsnn.LI(0.9)
    )
    x = 2 * draw(T, B, I)
    state, outputs = jsnn.unroll(network, x)
    stepped = network.init(x.shape[1:])
    for t in range(T):
        stepped, y = network.step(stepped, x[t])
    close((state, outputs[-1]), (stepped, y))
    static, _ = jsnn.unroll(network, x[0], num_steps=T)
    close(static, jsnn.unroll(network, jnp.broadcast_to(x[0], x.shape))[0])


@pytest.mark.parametrize("synapse", ["short-term", "spike-timing"])
def test_recurrence_may_be_plastic(synapse):
    weights = 0.3 * draw(I, I)
    if synapse == "short-term":
        feedback = Plastic(weights, RULES["ShortTerm"])
    else:
        plastic = Plastic(weights, RULES["STDP"])
        feedback = jsnn.Network(lambda s: plastic({"input": s, "post": s}))
    neuron, x = jsnn.Recurrent(jsnn.LIF(0.9), feedback), draw(T, B, I)
    state, outputs = jsnn.unroll(neuron, x)
    late = jnp.concatenate([jnp.zeros((1, B, I)), outputs[:-1]])
    if synapse == "short-term":
        own, currents = jsnn.unroll(feedback, late)
        close(jsnn.unroll(jsnn.LIF(0.9), x + currents)[1], outputs)
        close(state.synapse, own)
    else:
        close(jax.tree.leaves(state.synapse), jax.tree.leaves(jsnn.unroll(plastic, {"input": late, "post": late})[0]))


def test_no_optimiser_trains_the_weights_unless_asked_to():
    layer, rule = nnx.Linear(I, N, rngs=nnx.Rngs(0), bias_init=nnx.initializers.ones), RULES["STDP"]
    plastic = Plastic(layer, rule, jsnn.LIF(0.9))
    assert not jax.tree.leaves(nnx.state(plastic, nnx.Param))
    close((plastic.synapse, plastic.bias), (layer.kernel[...], layer.bias[...]))
    unbounded = dataclasses.replace(rule, bounds=Bounds(-10, 10))

    def loss(layer, learn):
        plastic = Plastic(layer, unbounded, jsnn.LIF(0.9), learn_initial=learn)
        return jnp.sum(jnp.square(jsnn.unroll(plastic, spikes(T, B, I))[0].weights))

    grads = [jax.tree.leaves(nnx.grad(functools.partial(loss, learn=learn))(layer)) for learn in (False, True)]
    assert not any(np.any(leaf) for leaf in grads[0])
    assert all(np.any(leaf) for leaf in grads[1])
    learnt = Plastic(layer, rule, learn_initial=True)
    assert len(jax.tree.leaves(nnx.state(learnt, nnx.Param))) == 2
    param = nnx.Param(jnp.ones((I, N)))
    assert Plastic(param, rule, learn_initial=True).synapse is param
    of_array = jax.grad(lambda w: jsnn.unroll(Plastic(w, unbounded, jsnn.LIF(0.9)), spikes(T, B, I))[0].weights.sum())
    assert np.any(of_array(layer.kernel[...]))


def test_learning_goes_on_from_a_state():
    plastic, x = make(RULES["STDP"], shared=True), spikes(T, B, I)
    state, _ = jsnn.unroll(plastic, x)
    later = dataclasses.replace(plastic, synapse=state.weights)
    close(later.init((B, I)).weights, state.weights)


@pytest.mark.parametrize("softness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("make", [STDP, TripletSTDP])
def test_a_rule_the_other_way_round_is_the_mirror_image(make, softness):
    inputs, ends = {"input": spikes(T, B, I), "post": spikes(T, B, N, seed=1)}, []
    for sign, start in ((1, 0.0), (-1, 1.0)):  # at a bound, which soft ones must be able to leave
        changes = {"potentiation": sign * 0.1, "depression": sign * 0.05}
        changes |= {"potentiation_triplet": 0.0, "depression_triplet": 0.0} if make is TripletSTDP else {}
        plastic = Plastic(jnp.full((I, N), start), make(bounds=Bounds(softness=softness), **changes))
        ends.append(jsnn.unroll(plastic, inputs)[0].weights)
    close(ends[0], 1 - ends[1])
    assert (ends[0] > 0).any()


def test_whole_numbers_are_kept():
    assert Plastic(jnp.array([[1001]]), STDP()).synapse == 1001  # which bfloat16 rounds


# Bad input

WEIGHTS = jnp.ones((I, N))
ONES = {"input": jnp.ones((T, B, I)), "post": jnp.ones((T, B, N)), "reward": jnp.ones((T, B))}


def run(rule, neuron=None, **inputs):
    return jsnn.unroll(Plastic(WEIGHTS, rule, neuron), ONES | inputs)


def without(*names):
    return {name: value for name, value in ONES.items() if name not in names}


class Wrong(Hebb):
    def update(self, weights, traces, pre, post):
        return weights[..., :1], traces


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Plastic(nnx.Param(WEIGHTS), STDP()), TypeError, r"synapse\[\.\.\.\], or learn_initial=True"),
        (lambda: Plastic(WEIGHTS, STDP), TypeError, r"make one, STDP\(...\)"),
        (lambda: Plastic(WEIGHTS, lambda: 0), TypeError, "Plastic takes a rule such as"),
        (lambda: Plastic(WEIGHTS, STDP(), jsnn.LIF), TypeError, "got the class LIF"),
        (lambda: Plastic([[1.0]], STDP()), TypeError, "got list"),
        (lambda: Plastic(jsnn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), STDP()), TypeError, "must be a dense layer"),
        (lambda: Plastic(jnp.ones(3), STDP()), ValueError, r"weights of shape \[I, N\], got shape \(3,\)"),
        (lambda: Plastic(jnp.ones((0, 3)), STDP()), ValueError, r"got shape \(0, 3\)"),
        (lambda: Plastic(WEIGHTS, STDP(), bias=jnp.ones(3)), ValueError, r"bias must be \[N\]"),
        (lambda: Plastic(WEIGHTS, STDP(), shared=1), TypeError, "shared must be True or False"),
        (lambda: Plastic(WEIGHTS, STDP(), share=True), TypeError, "did you mean 'shared'"),
        (lambda: run(RewardSTDP(), reward=jnp.ones((T, 5))), ValueError, r"reward must be of shape \(2,\) or \(\)"),
        (lambda: run(RewardSTDP(), reward=jnp.ones((T, B, N))), ValueError, r"got \(2, 4\)"),
        (lambda: run(RewardSTDP(), post=jnp.ones((T, B, 5))), ValueError, r"post must be of shape \(2, 4\)"),
        (lambda: run(RewardSTDP(), input=jnp.ones((T, B, 5))), ValueError, "takes 3 presynaptic neurons"),
        (lambda: run(STDP()), ValueError, "a dict of input, post at a step, got input, post, reward"),
        (lambda: jsnn.unroll(Plastic(WEIGHTS, RewardSTDP()), without("reward")), ValueError, "input, post, reward"),
        (lambda: jsnn.unroll(Plastic(WEIGHTS, STDP()), ONES["input"]), ValueError, "without a neuron takes a dict"),
        (lambda: jsnn.unroll(Plastic(WEIGHTS, STDP()), ONES["post"]), ValueError, "without a neuron takes a dict"),
        (lambda: jsnn.unroll(Plastic(WEIGHTS, Wrong(), jsnn.LIF()), ONES["input"]), ValueError, "Wrong.update must"),
        (
            lambda: jsnn.unroll(Plastic(WEIGHTS, plasticity.Rule(), jsnn.LIF()), ONES["input"]),
            NotImplementedError,
            "no",
        ),
        (lambda: make(STDP()).step(make(STDP()).init((3, I)), jnp.ones((B, I))), ValueError, "state must hold arrays"),
        (lambda: make(STDP()).step(jnp.ones((B, I)), make(STDP()).init((B, I))), TypeError, "in this order"),
        (lambda: make(STDP()).init(I), TypeError, "shape must be a tuple"),
        (lambda: Plastic(1j * WEIGHTS, STDP()), TypeError, "synapse must be real numbers, got complex64"),
        (lambda: Plastic(jnp.nan * WEIGHTS, STDP()), ValueError, "synapse must be a number, got .*nan"),
        (
            lambda: Plastic(WEIGHTS, RewardSTDP()).step(None, jax.tree.map(lambda x: x[0].astype(int), ONES)),
            TypeError,
            "inputs must be floating point, got int32",
        ),
        (lambda: STDP(1.1), ValueError, r"decay_pre must be in \[0, 1\]"),
        (lambda: STDP(float("nan")), ValueError, "decay_pre"),
        (lambda: STDP(pairing="some"), ValueError, "pairing must be 'all' or 'nearest', got 'some'"),
        (lambda: STDP(bounds=(0, 1)), TypeError, "bounds must be jsnn.plasticity.Bounds"),
        (lambda: STDP.from_time_constants(0.0, dt=1e-3), ValueError, "tau_pre must be > 0"),
        (lambda: STDP.from_time_constants(dt=0.0), ValueError, "dt must be > 0"),
        (lambda: Bounds(1.0, 0.0), ValueError, "high must be above low, got low 1.0 and high 0.0"),
        (lambda: Bounds(0.0, jnp.inf, softness=1.0), ValueError, "take softness=0"),
        (lambda: Bounds(softness=-1.0), ValueError, "softness must be >= 0"),
        (lambda: ShortTerm(use=1.5), ValueError, "use must be"),
        (lambda: plasticity.BCM(target=0.0), ValueError, "target must be > 0"),
        (lambda: plasticity.FastWeights(writes="x"), ValueError, "writes must be 'hebb' or 'delta'"),
        (lambda: plasticity.Normalization(0.0), ValueError, "total must be > 0"),
        (lambda: plasticity.Chain(()), ValueError, "at least one rule"),
        (lambda: plasticity.Chain(STDP()), TypeError, "a tuple of rules"),
        (lambda: plasticity.Chain((STDP(), 3)), TypeError, "Chain takes a rule"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
