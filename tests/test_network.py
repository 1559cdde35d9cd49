"""Networks of any shape: layer by layer as step by step, for every neuron; names, averages, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import TraceContextError
from test_neurons import over_neurons

import jsnn
from jsnn.network import neurons_of
from jsnn.neurons.calling import call

T, B, N = 6, 3, 4
INPUTS = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 2, (T, B, N)), jnp.float32)


class Residual(nnx.Module):
    """Two layers and a skip connection, around any neuron."""

    def __init__(self, neuron, rngs):
        self.first, self.second = (nnx.Linear(N, N, rngs=rngs) for _ in range(2))
        self.neuron, self.last = neuron, jsnn.LIF(nnx.Param(jnp.asarray(0.5)))

    def __call__(self, x):
        return self.last(self.second(call(self.neuron, self.first(x)))) + x


class Attention(nnx.Module):
    """Self-attention of spiking queries, keys and values over the tokens [B, 2, N / 2]."""

    def __init__(self, rngs):
        self.to_tokens = nnx.Linear(N // 2, 3 * N // 2, rngs=rngs)
        self.spikes, self.out = jsnn.LIF(0.5, threshold=0.2), jsnn.LIF(0.5, threshold=0.1)

    def __call__(self, x):
        tokens = x.reshape(x.shape[0], 2, N // 2)
        q, k, v = jnp.split(self.spikes(self.to_tokens(tokens)), 3, axis=-1)
        return (self.out(jnp.einsum("bqd,bkd,bkv->bqv", q, k, v)) + tokens).reshape(x.shape)


class Branches(nnx.Module):
    """Concatenated branches, a neuron called twice, a list of blocks, a chain, and control flow without a neuron."""

    def __init__(self, rngs):
        self.shared, self.out = jsnn.CuBaLIF(0.8, 0.7), jsnn.LI(0.9)
        self.blocks = nnx.List([Residual(jsnn.LIF(0.9), rngs) for _ in range(2)])
        self.chain = jsnn.Sequential(nnx.Linear(2 * N, N, rngs=rngs), jsnn.LIF(0.7))

    def __call__(self, x):
        both = jnp.concatenate([self.shared(x), self.shared(2 * x)], axis=-1)
        x = jax.lax.cond(True, lambda y: y, lambda y: -y, self.chain(both))
        for block in self.blocks:
            x = block(x)
        return {"out": self.out(x), "spikes": x}


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm, self.lif = nnx.Linear(N, N, rngs=rngs), nnx.BatchNorm(N, rngs=rngs), jsnn.LIF(0.9)

    def __call__(self, x):
        return self.lif(self.norm(self.linear(x))) + x


NETWORKS = {
    "attention": lambda: jsnn.Network(Attention(nnx.Rngs(0))),
    "branches": lambda: jsnn.Network(Branches(nnx.Rngs(0))),
    "nested": lambda: jsnn.Network(jsnn.Network(Residual(jsnn.ALIF(), nnx.Rngs(0)))),
    "in a chain": lambda: jsnn.Sequential(jsnn.Network(Residual(jsnn.LIF(), nnx.Rngs(0))), jsnn.LI(0.5)),
    "recurrent": lambda: jsnn.Recurrent(
        jsnn.Network(Residual(jsnn.LIF(), nnx.Rngs(0))), nnx.Linear(N, N, rngs=nnx.Rngs(1))
    ),
    "jitted inside": lambda: jsnn.Network(jax.jit(lambda x: jsnn.LIF(0.9)(x) * 2 + x)),
}


unroll = jax.jit(jsnn.unroll, static_argnames=("num_steps", "remat", "method"))


def step_by_step(network, inputs):
    """`unroll`, as a loop of steps."""
    return jax.lax.scan(network.step, network.init(inputs.shape[1:]), inputs)


def assert_close(a, b, tolerance=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), a, b)


def assert_layers_are_steps(network):
    static = jnp.broadcast_to(INPUTS[0], INPUTS.shape)
    assert_close(jax.jit(jsnn.unroll)(network, INPUTS), jax.jit(step_by_step)(network, INPUTS))
    found = jax.jit(functools.partial(jsnn.unroll, num_steps=T))(network, INPUTS[0])
    assert_close(found, jax.jit(step_by_step)(network, static))

    def loss(run, network):
        return sum(jnp.sum(y**2) for y in jax.tree.leaves(run(network, INPUTS)[1]))

    gradients = [jax.jit(jax.grad(functools.partial(loss, run)))(network) for run in (jsnn.unroll, step_by_step)]
    assert_close(*(jax.tree.map(lambda g: g, nnx.state(g, nnx.Param)) for g in gradients), tolerance=1e-4)


@pytest.mark.slow
@over_neurons(" ")
def test_every_neuron_in_a_residual_block(neuron):
    assert_layers_are_steps(jsnn.Network(Residual(neuron, nnx.Rngs(0))))


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_networks_of_other_shapes(make):
    assert_layers_are_steps(make())


def test_names_are_attribute_paths():
    network = jsnn.Network(Branches(nnx.Rngs(0)))
    expected = ["blocks.0.last", "blocks.0.neuron", "blocks.1.last", "blocks.1.neuron", "chain", "out", "shared"]
    assert sorted(network.init((B, N))) == [*expected, "shared:2"]
    lif = jsnn.LIF()
    assert list(jsnn.Network(lambda x: lif(lif(x))).init((B, N))) == ["0_LIF", "1_LIF"]
    records = jsnn.record(jsnn.Network(Residual(jsnn.LIF(), nnx.Rngs(0))), INPUTS)
    assert list(records) == ["neuron", "last", "output"]
    assert records["neuron"].states.v.shape == (T, B, N)


def test_batch_norm_sees_all_steps_and_updates_its_averages_once():
    module, by_hand = (Normalised(nnx.Rngs(0)) for _ in range(2))
    outputs = jsnn.unroll(jsnn.Network(module), INPUTS)[1]
    normalised = by_hand.norm(by_hand.linear(INPUTS.reshape(T * B, N))).reshape(T, B, N)
    expected = np.add(unroll(jsnn.LIF(0.9), normalised)[1], INPUTS)
    np.testing.assert_array_equal(outputs, expected)
    assert_close(nnx.state(module, nnx.BatchStat), nnx.state(by_hand, nnx.BatchStat))
    assert np.any(module.norm.mean[...] != 0)


@pytest.mark.rows(1)
@pytest.mark.parametrize("run", [
    lambda network: jsnn.unroll(network, INPUTS),
    lambda network: jsnn.record(network, INPUTS, keep=["outputs"]),
    lambda network: network.step(network.init((B, N)), INPUTS[0]),
    lambda network: nnx.jit(jsnn.unroll)(network, INPUTS),
], ids=["unroll", "record", "step", "jit"])  # fmt: skip
def test_what_a_network_in_a_network_changes_is_kept(run):
    def block():
        return jsnn.Network(Normalised(nnx.Rngs(0)))

    alone, shared = block(), block()
    run(alone)
    for outer in (jsnn.Network(block()), jsnn.Sequential(jsnn.Sequential(block(), jsnn.LIF()))):
        run(outer)
        assert_close(jax.tree.leaves(nnx.state(outer, nnx.BatchStat)), jax.tree.leaves(nnx.state(alone, nnx.BatchStat)))
    with pytest.raises(ValueError, match="0_Network changes itself: make it an attribute of the module"):
        run(jsnn.Network(lambda x: shared(x)))
    twice = jsnn.Sequential(first := block(), nnx.Dropout(0.5, rngs=nnx.Rngs(0)), first)
    before = int(twice.layers[1].rngs.count[...])
    run(twice)
    assert int(twice.layers[1].rngs.count[...]) == before + 1


def test_what_is_static_is_computed_once():
    def products(network, inputs, **options):
        program = str(jax.make_jaxpr(lambda x: jsnn.unroll(network, x, **options)[1])(inputs))
        return [line.split("=")[0] for line in program.splitlines() if "dot_general" in line]

    found = products(jsnn.Network(Residual(jsnn.LIF(), nnx.Rngs(0))), INPUTS[0], num_steps=T)
    assert [f"f32[{rows},{N}]" in line for rows, line in zip((B, T * B), found, strict=True)] == [True, True]


def test_it_trains_by_flax_and_goes_on_from_a_state():
    network = jsnn.Network(Residual(jsnn.LIF(nnx.Param(jnp.asarray(0.9))), nnx.Rngs(0)))
    state, first = unroll(network, INPUTS[:2])
    _, rest = unroll(network, INPUTS[2:], state)
    np.testing.assert_array_equal(np.concatenate([first, rest]), unroll(network, INPUTS)[1])
    gradient = nnx.jit(nnx.grad(lambda network: jnp.sum(jsnn.unroll(network, INPUTS)[1] ** 2)))(network)
    assert {path[-1] for path, _ in nnx.to_flat_state(gradient)} == {"kernel", "bias", "decay"}
    assert jax.eval_shape(jsnn.unroll, network, INPUTS[:0])[1].shape == (0, B, N)


LIF = jsnn.LIF()
WEIGHTS = jnp.asarray(np.random.default_rng(3).normal(size=(3, N, N)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(4).uniform(0, 2, (B, 5, N)), jnp.float32)


class Function(nnx.Module):
    """A function of one time step, and the parts that it uses."""

    def __init__(self, function, more=None):
        self.function, self.lif, self.more = function, jsnn.LIF(0.5), more

    def __call__(self, x):
        return self.function(self, x)


def experts(m, x):
    outputs = jnp.einsum("bi,eij->ebj", x, WEIGHTS)  # static, the batch in the second axis
    return jnp.einsum("be,ebj->bj", jax.nn.softmax(m.lif(x)[:, :3]), outputs)


def one_order_or_another(m, x):
    """What einsum multiplies first depends on the size of the batch."""
    return jnp.einsum("bi,ij,jk->bk", m.lif(x), m.more[0][...], m.more[1][...]).sum(-1, keepdims=True)


def only_for_this_batch(m, x):
    assert x.shape == (B, N)
    return m.lif(x)


PARAMETERS = nnx.List([nnx.Param(jnp.ones((16, 8)) / 9), nnx.Param(jnp.arange(56.0).reshape(8, 7) / 99)])
MOVED: dict[str, tuple] = {
    "experts": (experts, INPUTS[0]),
    "stacked": (lambda m, x: (jnp.stack([x, 2 * x, 3 * x]) * m.lif(x)).max(0), INPUTS[0]),
    "chosen": (lambda m, x: jnp.stack([x, 2 * x])[jnp.int32(m.lif(x) > 0), jnp.arange(B)[:, None], 0], INPUTS[0]),
    "tokens first": (lambda m, x: m.lif(x.swapaxes(0, 1)).swapaxes(0, 1) * x, TOKENS),
    "tokens in the batch": (lambda m, x: m.lif(x.reshape(-1, N)).reshape(x.shape) + x, TOKENS),
    "vector": (lambda m, x: jax.nn.softmax(m.lif(x))[::-1], INPUTS[0, 0]),
    "asserted": (only_for_this_batch, INPUTS[0]),
    "einsum": (one_order_or_another, jnp.ones((1, 16)) / 3),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize(("function", "x"), MOVED.values(), ids=MOVED)
def test_wherever_the_batch_is_the_numbers_are_those_of_the_steps(function, x):
    network = jsnn.Network(Function(function, more=PARAMETERS))
    inputs = np.stack([np.float32(1 + 0.1 * n) * x for n in range(16)])
    each_step, found = jax.jit(step_by_step), unroll(network, inputs)
    assert_close(found, each_step(network, inputs))
    static = np.broadcast_to(x, (16, *x.shape))
    assert_close(unroll(network, x, num_steps=16), each_step(network, static))
    records = jax.jit(jsnn.record)(network, inputs)
    assert_close(records["output"].outputs, found[1])
    assert records["lif"].states.v.shape[0] == 16
    assert jax.eval_shape(jsnn.unroll, network, inputs[:0])[1].shape[0] == 0


def test_random_numbers_are_drawn_at_each_step_of_a_static_input():
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    network = jsnn.Network(Function(lambda m, x: m.more(m.lif(10 * m.more(x))), more=dropout))
    spikes = nnx.jit(functools.partial(jsnn.unroll, num_steps=4))(network, jnp.ones((2, 50)))[1]
    assert len({step.tobytes() for step in np.asarray(spikes)}) == 4


@pytest.mark.parametrize("around", [nnx.jit, nnx.remat])
def test_random_numbers_in_a_call_are_drawn_at_each_step_of_a_static_input(around):
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    network = jsnn.Network(Function(lambda m, x: around(lambda drop, x: drop(x))(m.more, x) + m.lif(x), more=dropout))
    outputs = jsnn.unroll(network, jnp.ones((2, 50)) / 9, num_steps=4)[1]  # too little for a spike
    assert len({step.tobytes() for step in np.asarray(outputs)}) == 4


def test_a_neuron_at_two_places_is_one_neuron():
    class Twice(nnx.Module):
        def __init__(self):
            self.a = self.b = jsnn.LIF(nnx.Param(jnp.asarray(0.5)))

        def __call__(self, x):
            return self.b(self.a(x))

    network = jsnn.Network(Twice())
    assert list(jsnn.unroll(network, INPUTS)[0]) == ["a", "a:2"]
    gradient = nnx.jit(nnx.grad(lambda network: jsnn.unroll(network, INPUTS)[1].sum()))(network)
    assert len(jax.tree.leaves(gradient)) == 1


def test_a_network_in_another_neuron_keeps_what_it_changes():
    recurrent = jsnn.Recurrent(jsnn.Network(Normalised(nnx.Rngs(0))), nnx.Linear(N, N, rngs=nnx.Rngs(1)))
    network = jsnn.Network(Function(lambda m, x: m.more(x), more=recurrent))
    network.step(network.init((B, N)), INPUTS[0])
    assert np.any(network.function.more.neuron.function.norm.mean[...])
    for run in (jsnn.unroll, lambda network, inputs: step_by_step(network, inputs)):
        with pytest.raises((ValueError, TraceContextError), match=r"changes itself|Cannot mutate BatchStat"):
            run(network, INPUTS)


@pytest.mark.parametrize("layer", [nnx.BatchNorm(N, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))])
@pytest.mark.parametrize("around", [jsnn.Sequential, lambda n: jsnn.Recurrent(n, lambda x: x)], ids=["alone", "within"])
def test_a_step_inside_jit_refuses_to_change_what_is_outside(layer, around):
    network = around(jsnn.Network(Function(lambda m, x: LIF(m.more(x)), more=layer)))
    state = network.init((B, N))
    with pytest.raises(ValueError, match=r"a network that changes itself is run .* outside of jax.jit"):
        jax.jit(lambda state, x: network.step(state, x))(state, INPUTS[0])
    nnx.jit(lambda network, state, x: network.step(state, x))(network, state, INPUTS[0])


CHANGES = {
    "a number": (lambda m: setattr(m, "count", m.count + 1), "count"),
    "an array": (lambda m: setattr(m, "array", m.array + 1), "array"),
    "a new one": (lambda m: setattr(m, "_last", 1000), "_last"),
    "one that is gone": (lambda m: delattr(m, "count"), "count"),
    "a part's": (lambda m: setattr(m.more, "in_features", 7), "more.in_features"),
    "another neuron": (lambda m: setattr(m, "lif", jsnn.LIF(0.1)), "lif"),
    "one more in a list": (lambda m: m.parts.append(jsnn.LIF(0.1)), "parts.0"),
}


@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=CHANGES)
def test_an_attribute_that_changes_is_named(change, name):
    module = Function(lambda m, x: (change(m), m.lif(x))[1], more=nnx.Linear(N, N, rngs=nnx.Rngs(0)))
    module.count, module.array, module.lif, module.parts = 0, jnp.zeros(()), jsnn.LIF(0.5), nnx.List([])
    network = jsnn.Network(module)
    for run in (lambda: jsnn.unroll(network, INPUTS), lambda: network.init((B, N))):
        with pytest.raises(ValueError, match=rf"cannot change its attribute {name} when .* make it an nnx.Variable"):
            run()


def test_an_attribute_that_is_set_to_what_it_is_does_not_change():
    module = Function(lambda m, x: (setattr(m, "size", int(str(x.shape[-1]) + "000")), m.lif(x))[1], more=None)
    module.size, module.lif = 1000 * N, jsnn.LIF(0.5)
    jsnn.unroll(jsnn.Network(module), INPUTS)


class Remembers(nnx.Module):
    """A module with a variable of its own for each example, so that time cannot join the batch."""

    def __init__(self):
        self.last, self.lif = nnx.Variable(jnp.zeros((B, N))), jsnn.LIF(0.5)

    def __call__(self, x):
        self.last[...] = self.lif(x + self.last[...])
        return self.last[...]


class Trained(nnx.Module):
    def __init__(self):
        self.norm, self.dropout = nnx.BatchNorm(N, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return LIF(self.dropout(self.norm(3 * x)))


@pytest.mark.rows(2)
@pytest.mark.parametrize("around", [lambda m: m, lambda m: jsnn.Sequential(m, jsnn.LI(0.5))], ids=["alone", "inside"])
@pytest.mark.parametrize(("make", "x"), [(Remembers, INPUTS), (Trained, INPUTS[:, 0])], ids=["own", "vector"])
def test_what_changes_at_each_step_changes_so_where_all_runs_step_by_step(make, x, around):
    network, other = around(jsnn.Network(make())), around(jsnn.Network(make()))
    found = nnx.jit(jsnn.unroll)(network, x)
    state, step, outputs = other.init(x.shape[1:]), nnx.jit(lambda network, *given: network.step(*given)), []
    for current in x:
        state, y = step(other, state, current)
        outputs.append(y)
    assert_close(found, (state, jnp.stack(outputs)))
    changed = [nnx.state(each, nnx.Not(nnx.RngKey)) for each in (network, other)]
    assert_close(*map(jax.tree.leaves, changed))


def test_callbacks_run():
    called = []

    def function(x):
        jax.debug.callback(lambda x: called.append(x.shape), 2 * x)  # the product is for it alone
        return LIF(x)

    jsnn.unroll(jsnn.Network(function), INPUTS)
    jax.effects_barrier()
    assert called == [(T * B, N)]


class Plain:
    """A neuron of a user's own class, which JAX does not know."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        return state + current, state + current


def test_a_neuron_of_any_class_will_do():
    expected = jnp.cumsum(INPUTS, axis=0)
    for network in (jsnn.Sequential(Plain()), jsnn.Network(lambda x: call(Plain(), x))):
        np.testing.assert_allclose(jsnn.unroll(network, INPUTS)[1], expected, rtol=1e-6)


class Chosen(nnx.Module):
    """A module that remembers of which class its neuron is."""

    def __init__(self, kind):
        self.kind, self.lif = kind, kind()

    def __call__(self, x):
        return self.lif(x)


def test_the_class_of_a_neuron_is_no_neuron():
    network = jsnn.Network(Chosen(jsnn.CuBaLIF))
    expected = jsnn.unroll(jsnn.CuBaLIF(), INPUTS)[1]
    for gradient in ("surrogate", "eventprop"):
        np.testing.assert_array_equal(jsnn.unroll(network, INPUTS, gradient=gradient)[1], expected)
    assert list(jsnn.record(network, INPUTS)) == ["lif", "output"]
    assert list(neurons_of(network)) == ["lif"]
    assert "lif" in jsnn.nir.to_nir(jsnn.Network(Chosen(jsnn.LI)), (N,), dt=1e-3).nodes
    assert jsnn.quant.aware(network)


def test_names_are_told_apart():
    named = jax.ad_checkpoint.checkpoint_name
    network = jsnn.Network(Function(lambda m, x: named(call(m.more, named(m.lif(x), "a"), "output"), "a"), more=LIF))
    assert list(jsnn.record(network, INPUTS)) == ["lif", "a", "output", "a:2", "output:2"]
    chain = jsnn.Network(lambda x: call(LIF, call(LIF, call(LIF, x, "a"), "a:2"), "a"))
    assert list(chain.init((B, N))) == ["a", "a:2", "a:3"]
    assert list(jsnn.Network(jsnn.LIF()).init((B, N))) == ["0_LIF"]
    monitored = jsnn.Network(lambda x: (LIF(x), np.zeros(B), call(LIF, x, "unused"))[:2])
    assert list(monitored.init((B, N))) == ["0_LIF"]
    assert monitored.step(monitored.init((B, N)), INPUTS[0])[1][1].shape == (B,)


def test_the_readout_of_a_network_in_a_chain_stays_precise():
    class Readout(nnx.Module):
        def __init__(self):
            self.stem, self.lif, self.head = nnx.Linear(N, N, rngs=nnx.Rngs(0)), LIF, nnx.Linear(N, 2, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.head(self.lif(self.stem(x)))

    reduced = jsnn.precision.reduce_precision(jsnn.Sequential(jsnn.Network(Readout())))
    assert (reduced.layers[0].function.stem.dtype, reduced.layers[0].function.head.dtype) == (jnp.bfloat16, None)


NORM = nnx.BatchNorm(N, rngs=nnx.Rngs(0))


@jax.custom_vjp
def own_derivative(x):
    return LIF(x)


own_derivative.defvjp(lambda x: (own_derivative(x), None), lambda _, gradient: (gradient,))


class Remembering(nnx.Module):
    def __call__(self, x):
        self.last = nnx.Variable(x)
        return LIF(x)


@pytest.mark.parametrize(("function", "error", "message"), [
    (own_derivative, ValueError, "LIF is called inside a function with a derivative of its own"),
    (Remembering(), ValueError, "cannot make variables when it is called, it made last: to look at a value, name it"),
    (lambda x: LIF(NORM(x)), ValueError, "an attribute of the module"),
    (lambda x: None, ValueError, r"must return arrays with the batch axis of its input \(3, 4\), it returned nothing"),
    (lambda x: LIF(x).sum(), ValueError, r"with the batch axis of its input \(3, 4\), it returned \(\)"),
    (lambda x: x + LIF(jnp.ones(N)), ValueError, "0_LIF must be given what depends on the input"),
    (lambda x: jax.lax.scan(lambda y, _: (LIF(y), None), x, length=2)[0], ValueError, "LIF is called inside scan"),
    (lambda x: jax.lax.cond(True, lambda y: LIF(y), jnp.sin, x), ValueError, "LIF is called inside cond"),
    (lambda x: jax.lax.cond(True, LIF, jnp.sin, x), TypeError, "LIF is unhashable, .* no branch or body of jax.lax"),
    (lambda x: jax.vmap(lambda y: LIF(y))(x), TypeError, r"LIF is called inside of jax.vmap: transform the network"),
    (lambda x: jax.grad(lambda y: LIF(y).sum())(x), TypeError, r"LIF is called inside of jax.grad: transform"),
    (lambda x: (LIF(x), "spikes"), ValueError, "a network must return arrays, it returned str"),
    (lambda x: LIF(x) if x.sum() > 0 else x, ValueError, "structure of a network cannot depend on values.*jnp.where"),
    (lambda x: [LIF(x), x][x.sum().astype(int)], ValueError, "structure of a network cannot depend on values"),
    (lambda x: LIF(x[x > 0]), ValueError, "structure of a network cannot depend on values"),
    (lambda x: LIF(np.tanh(x)), ValueError, "depend on values, .* jax.numpy in place of NumPy"),
    (lambda x: LIF(x[:, :2]) + x, ValueError, r"the input has shape \(3, 4\), 0_LIF has shape \(3, 2\)"),
    (lambda x: LIF(x[:, :2]) @ jnp.ones((5, 1)), ValueError, r"got \(2,\) and \(5,\)\. Here 0_LIF has shape \(3, 2\)"),
    (lambda x: LIF(nnx.Linear(5, 1, rngs=nnx.Rngs(0))(x)), ValueError, r"[^.]\. Here the input has shape \(3, 4\)"),
])  # fmt: skip
def test_what_is_no_network_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        jsnn.unroll(jsnn.Network(function), INPUTS)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="Network takes a module or a function, got the class Residual: make one"):
        jsnn.Network(Residual)
    with pytest.raises(TypeError, match="Network takes a module or a function of one array, got int"):
        jsnn.Network(3)
    with pytest.raises(
        ValueError, match=r"state must be a dict with a state for each of neuron, last, got \['other'\]"
    ):
        jsnn.Network(Residual(LIF, nnx.Rngs(0))).step({"other": ()}, INPUTS[0])
    with pytest.raises(TypeError, match=r"LIF is not called, as its state is passed in and out: .* jsnn.unroll"):
        jax.jit(lambda x: LIF(x))(INPUTS[0])


class Gated(nnx.Module):
    """Two inputs, one of which gates the other, and a network inside that takes and gives several as well."""

    def __init__(self, rngs):
        self.linear, self.lif, self.gate = nnx.Linear(N, N, rngs=rngs), jsnn.LIF(0.9), jsnn.LI(0.5)
        self.inner = jsnn.Network(lambda pair: {"sum": LIF(pair[0] + pair[1]), "first": pair[0]})

    def __call__(self, x):
        gate = self.gate(x["context"])
        y = self.inner((self.lif(self.linear(x["image"])), gate))
        return y["sum"] * gate + y["first"], gate


SEVERAL = {"image": INPUTS, "context": INPUTS[::-1, ..., ::-1]}


def at(index, tree=SEVERAL):
    return jax.tree.map(lambda x: x[index], tree)


def test_several_inputs_and_outputs():
    network = jsnn.Network(Gated(nnx.Rngs(0)))
    state, outputs = unroll(network, SEVERAL)
    shapes = {"image": (B, N), "context": (B, N)}
    assert_close((state, outputs), jax.jit(jax.lax.scan, static_argnums=0)(network.step, network.init(shapes), SEVERAL))
    static = jax.tree.map(lambda x: np.broadcast_to(x[0], x.shape), SEVERAL)
    assert_close(unroll(network, at(0), num_steps=T), unroll(network, static))
    assert_close(unroll(network, SEVERAL, remat=4), (state, outputs))
    middle, _ = unroll(network, at(slice(2)))
    assert_close(unroll(network, at(slice(2, T)), middle)[1], at(slice(2, T), outputs))
    records = jsnn.record(network, SEVERAL)
    inner = ["inner/0_LIF", "inner/output.first", "inner/output.sum"]
    assert list(records) == ["gate", "lif", *inner, "output.0", "output.1"]
    assert_close((records["output.0"].outputs, records["output.1"].outputs), outputs)
    some = jax.jit(lambda network: jsnn.record(network, SEVERAL, every=4, neurons=[1]))(network)
    np.testing.assert_allclose(some["lif"].outputs, records["lif"].outputs[::4, :, 1:2])
    assert jsnn.energy.count(network, SEVERAL).neurons == 3 * N
    assert jsnn.energy.count(network, at(0), num_steps=T).steps == T
    assert jsnn.memory_estimate(network, shapes, T) > 2 * INPUTS.nbytes
    chain = jsnn.Sequential(network, lambda pair: pair[0] - pair[1], jsnn.LI(0.5))
    assert jax.eval_shape(jsnn.unroll, chain, SEVERAL)[1].shape == (T, B, N)


@pytest.mark.parametrize(("run", "error", "message"), [
    (lambda net: jsnn.unroll(net, {**SEVERAL, "image": INPUTS[1:]}), ValueError, "same number of time steps"),
    (lambda net: jsnn.unroll(net, {**SEVERAL, "image": INPUTS[0]}), ValueError, "is static .* jnp.broadcast_to"),
    (lambda net: jsnn.unroll(net, {**SEVERAL, "image": INPUTS[:, 1:]}), ValueError, "must have the same batch axis"),
    (lambda net: jsnn.unroll(net, {**SEVERAL, "image": INPUTS.astype(int)}), TypeError, "must be floating point"),
    (lambda net: jsnn.unroll(net, {"image": INPUTS}), (KeyError, ValueError), "context"),
    (lambda net: jsnn.unroll(jsnn.LIF(), SEVERAL), TypeError, r"several inputs, in a dict .* are for a jsnn.Network"),
])  # fmt: skip
def test_several_inputs_that_do_not_fit_are_refused(run, error, message):
    with pytest.raises(error, match=message):
        run(jsnn.Network(Gated(nnx.Rngs(0))))


class Classifier(nnx.Module):
    """A convolution, a residual block with batch normalisation, and a readout of the mean over pixels."""

    def __init__(self, rngs):
        self.stem, self.conv = jsnn.Conv(1, 4, (3, 3), rngs=rngs), jsnn.Conv(4, 4, (3, 3), rngs=rngs)
        self.norm, self.readout = nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        self.lif1, self.lif2 = jsnn.LIF(0.5, reset="zero"), jsnn.LIF(0.5, reset="zero")

    def __call__(self, x):
        x = self.lif1(self.stem(x))
        x = jax.ad_checkpoint.checkpoint_name(self.lif2(self.norm(self.conv(x))) + x, "block")
        return self.readout(x.mean(axis=(1, 2)))


IMAGES = jnp.asarray(np.random.default_rng(1).uniform(size=(T, B, 6, 6, 1)), jnp.float32)


def classifier():
    network = jsnn.Network(Classifier(nnx.Rngs(0)))
    network.eval()
    return network


def test_record_shows_neurons_what_is_named_and_the_output():
    records = jsnn.record(classifier(), IMAGES)
    assert list(records) == ["lif1", "lif2", "block", "output"]
    first, second, both = (np.asarray(records[name].outputs) for name in ("lif1", "lif2", "block"))
    np.testing.assert_array_equal(both, first + second)
    record = functools.partial(jsnn.record, keep={"lif2": ["v"]}, neurons=3, every=2)
    assert jax.eval_shape(record, classifier(), IMAGES)["lif2"].states.v.shape == (T // 2, B, 3)


def test_record_in_training_updates_averages_once():
    network, other = jsnn.Network(Classifier(nnx.Rngs(0))), jsnn.Network(Classifier(nnx.Rngs(0)))
    jsnn.record(network, IMAGES, keep=["outputs"])
    jsnn.unroll(other, IMAGES)
    assert_close(nnx.state(network, nnx.BatchStat), nnx.state(other, nnx.BatchStat))
    with pytest.raises(ValueError, match=r"a network that changes itself is run as a whole, .* every=: leave them out"):
        jsnn.record(network, IMAGES, every=2)
    with pytest.raises(ValueError, match="remat=True takes layers that change nothing"):
        jsnn.unroll(network, IMAGES, remat=True)


@pytest.mark.slow
def test_remat_methods_precision_memory_and_energy():
    network = classifier()
    expected = unroll(network, IMAGES)[1]
    for options in ({"remat": True}, {"method": "scan"}, {"method": "parallel"}):
        np.testing.assert_allclose(unroll(network, IMAGES, **options)[1], expected, atol=1e-5)
    reduced = jsnn.precision.reduce_precision(network)
    state = jsnn.precision.initial_state(network, IMAGES.shape[1:])
    assert jax.eval_shape(jsnn.record, reduced, IMAGES, state)["lif1"].outputs.dtype == jnp.bfloat16
    assert jax.eval_shape(jsnn.unroll, reduced, IMAGES, state)[1].dtype == jnp.float32  # the readout is defined last
    assert jsnn.memory_estimate(network, IMAGES.shape[1:], T) > expected.nbytes
    counted = jsnn.energy.count(network, IMAGES)
    assert counted.neurons == 2 * 6 * 6 * 4
    assert [synapses.accumulates for synapses in counted.synapses] == [False, True, False]


def test_it_comes_back_from_nir():
    network = classifier()
    graph = jsnn.nir.to_nir(network, IMAGES.shape[2:], dt=1e-3)
    assert {"stem", "lif1", "conv", "lif2", "readout"} <= set(graph.nodes)
    back = jsnn.nir.from_nir(graph, dt=1e-3)
    np.testing.assert_allclose(unroll(back, IMAGES)[1], unroll(network, IMAGES)[1], atol=1e-5)


def test_weights_go_where_modules_are_defined():
    network = classifier()
    random = np.random.default_rng(2)
    shapes = {"a.weight": (4, 1, 3, 3), "a.bias": (4,), "b.weight": (4, 4, 3, 3), "b.bias": (4,)}
    norms = {f"n.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    arrays = {
        name: random.uniform(size=shape)
        for name, shape in (shapes | norms | {"r.weight": (3, 4), "r.bias": (3,)}).items()
    }
    filled, report = jsnn.weights.from_torch(network, arrays, IMAGES.shape[2:])
    np.testing.assert_allclose(filled.function.conv.kernel[...], arrays["b.weight"].transpose(2, 3, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(filled.function.norm.var[...], arrays["n.running_var"], rtol=1e-6)
    assert "b.weight (4, 4, 3, 3)  ->  conv.kernel" in " ".join(str(report).split(" ")).replace("   ", "  ")


def chain():
    return jsnn.Sequential(nnx.Linear(N, N, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))


@pytest.mark.parametrize(
    "around",
    [
        jsnn.Network,
        lambda chain: jsnn.Network(jsnn.Network(chain)),
        lambda chain: jsnn.Sequential(jsnn.Network(chain)),
        lambda chain: jsnn.Network(Function(lambda m, x: m.more(x), more=jsnn.Network(chain))),
        lambda chain: jsnn.Network(jsnn.Recurrent(jsnn.LIF(0.5), chain.layers[0])),
    ],
    ids=["network", "twice", "in a chain", "in a module", "recurrence"],
)
def test_a_network_around_a_network_is_seen_through(around):
    network, weight = around(chain()), np.arange(N * N, dtype=np.float32).reshape(N, N)
    arrays = {"recurrent.weight": weight, "recurrent.bias": np.ones(N)}
    if any(isinstance(part, jsnn.Sequential) for _, part in nnx.iter_graph(network)):
        arrays = {name.removeprefix("recurrent."): array for name, array in arrays.items()}
    filled, _ = jsnn.weights.from_torch(network, arrays, (N,))
    (kernel,) = (part.kernel for _, part in nnx.iter_graph(filled) if isinstance(part, nnx.Linear))
    np.testing.assert_array_equal(kernel[...], weight.T)
    (name,) = set(neurons_of(network)) - {"lif"}  # which no one calls
    assert name in jsnn.record(network, INPUTS)


class Pair(nnx.Module):
    """Two equal layers around a neuron, the first of which is used as `use` says."""

    def __init__(self, use, **options):
        self.use, self.bias = use, nnx.Param(jnp.ones(N))
        self.first, self.second = (nnx.Linear(N, N, rngs=nnx.Rngs(0), **options) for _ in range(2))

    def __call__(self, x):
        return self.second(LIF(self.use(self, x)))


def test_weights_go_to_layers_in_other_precision_and_none_is_left_out():
    arrays = {f"{layer}.weight": np.eye(N) * k for k, layer in enumerate("ab", 2)}
    arrays |= {f"{layer}.bias": np.zeros(N) for layer in "ab"}
    half = jsnn.Network(Pair(lambda m, x: m.first(x), dtype=jnp.bfloat16))
    with pytest.warns(UserWarning, match="in the order in which the modules are defined"):
        filled, _ = jsnn.weights.from_torch(half, arrays, (N,))
    np.testing.assert_array_equal(filled.function.first.kernel[...], arrays["a.weight"])
    one = {name: array for name, array in arrays.items() if name.startswith("b")}
    for use, given, name in [
        (lambda m, x: m.first(x + m.bias[...]), arrays, "bias"),
        (lambda m, x: x @ (2 * m.first.kernel[...]), one, "first.kernel"),
    ]:
        with pytest.raises(TypeError, match=f"^{name} has no place in from_torch"):
            jsnn.weights.from_torch(jsnn.Network(Pair(use)), given, (N,))


def test_a_flattened_image_in_front_of_a_dense_layer_is_turned():
    class Flat(nnx.Module):
        def __init__(self):
            self.lif, self.readout = jsnn.LIF(0.5), nnx.Linear(18, 2, use_bias=False, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.readout(self.lif(x).reshape(x.shape[0], -1))

    theirs = np.random.default_rng(0).normal(size=(2, 18))  # of images (2, 3, 3), channels first
    filled, _ = jsnn.weights.from_torch(jsnn.Network(Flat()), {"0.weight": theirs}, (3, 3, 2))
    expected = theirs.reshape(2, 2, 3, 3).transpose(2, 3, 1, 0).reshape(18, 2)
    np.testing.assert_allclose(filled.function.readout.kernel[...], expected, rtol=1e-6)


class Held(nnx.Module):
    def __init__(self):
        self.linear, self.lif = nnx.Linear(3, 3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9)
        self.neurons = nnx.List([jsnn.LIF(0.9)])

    def __call__(self, x):
        return self.neurons[0](self.lif(self.linear(x)))


def put_into_sequential():
    network = jsnn.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
    network.layers[1] = jax.nn.relu
    return network


def put_into_a_list():
    module = Held()
    module.neurons[0] = jax.nn.relu
    return jsnn.Network(module)


def put_into_a_module():
    module = Held()
    module.lif = jax.nn.relu
    return jsnn.Network(module)


@pytest.mark.parametrize(
    ("change", "name"),
    [(put_into_sequential, "layers.1"), (put_into_a_list, "neurons.0"), (put_into_a_module, "lif")],
)
def test_a_function_in_the_place_of_a_neuron(change, name):
    network = change()
    if not any(leaf is jax.nn.relu for _, leaf in nnx.to_flat_state(nnx.state(network))):
        assert jsnn.unroll(network, jnp.ones((5, 2, 3)))[1].shape == (5, 2, 3)  # older versions of Flax see what it is
        return
    with pytest.raises(TypeError, match=rf"^{name} was a neuron or a module, and is a function now"):
        jsnn.unroll(network, jnp.ones((5, 2, 3)))


def test_a_state_is_not_given_to_a_network_that_is_called():
    network = jsnn.Sequential(jsnn.LIF(0.9))
    with pytest.raises(TypeError, match=r"Sequential is not called, as its state is passed in and out"):
        network(jnp.ones((2, 3)), network.init((2, 3)))
