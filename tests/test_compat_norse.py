"""Norse's own outputs and gradients, reproduced (golden vectors of norse 1.1.0 and of its git head)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import close

import jsnn
from jsnn import decode, models
from jsnn.compat import norse


def run_and_record(neuron, inputs, name, **kwargs):
    return jsnn.record(neuron, jnp.asarray(inputs, jnp.float32), **kwargs)[name]


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("stem", "parameters", "spikes"),
    [
        ("norse_LIFCell", {}, "z"),
        ("norse_lif_feed_forward_step__default_dt0.001", {}, "z_f32"),
        ("norse_lif_feed_forward_step__tut_vth05_alpha100_dt0.001", {"v_th": 0.5}, "z_f32"),
    ],
)
def test_lif_gives_norses_trace(parity, stem, parameters, spikes):
    golden = parity(stem)
    layer = run_and_record(norse.lif(**parameters), golden["input"], "CuBaLIF")
    suffix = spikes.removeprefix("z")
    np.testing.assert_array_equal(layer.outputs, golden[spikes])
    close(layer.states.v, golden["v" + suffix])
    close(layer.states.i, golden["i" + suffix])


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("stem", "parameters"),
    [
        ("default_dt0.001", {}),
        ("default_dt0.002", {"dt": 0.002}),
        ("tut_vth05_alpha100_dt0.001", {"v_th": 0.5}),
    ],
)
def test_lif_current_encoder_gives_norses_trace(parity, stem, parameters):
    golden = parity(f"norse_lif_current_encoder__{stem}")
    neuron = norse.lif_current_encoder(**parameters)
    layer = run_and_record(neuron, golden["input_current"], "LIF", num_steps=50)
    np.testing.assert_array_equal(layer.outputs, golden["z_f32"])
    close(layer.states.v, golden["v_f32"])


@pytest.mark.parametrize(("stem", "dt"), [("default_dt0.001", 0.001), ("default_dt0.002", 0.002)])
def test_lif_step_with_recurrent_weights(parity, stem, dt):
    golden = parity(f"norse_lif_step__{stem}")
    network = norse.lif_recurrent(6, 5, rngs=nnx.Rngs(0), autapses=True, dt=dt)
    network.layers[0].kernel[...] = jnp.asarray(golden["input_weights"].T)
    network.layers[1].synapse.kernel[...] = jnp.asarray(golden["recurrent_weights"].T)
    layer = run_and_record(network, golden["input_spikes"], "1_Recurrent")
    np.testing.assert_array_equal(layer.outputs, golden["z_f32"])
    close(layer.states.neuron.v, golden["v_f32"])
    close(layer.states.neuron.i, golden["i_f32"])


def test_recurrent_cell_has_no_autapses(parity):
    golden = parity("norse_LIFRecurrentCell")
    network = norse.lif_recurrent(6, 5, rngs=nnx.Rngs(0), v_th=0.5)
    network.layers[0].kernel[...] = jnp.asarray(golden["input_weights"].T)
    network.layers[1].synapse.kernel[...] = jnp.asarray(golden["recurrent_weights_given"].T)
    layer = run_and_record(network, golden["input_spikes"], "1_Recurrent")
    np.testing.assert_array_equal(layer.outputs, golden["z"])
    close(layer.states.neuron.v, golden["v"])
    close(layer.states.neuron.i, golden["i"])


def test_initial_weights_are_drawn_as_norse_draws_them():
    network = norse.lif_recurrent(400, 100, rngs=nnx.Rngs(0))
    assert np.std(network.layers[0].kernel[...]) == pytest.approx(0.1414, rel=0.02)
    feedback = np.asarray(network.layers[1].synapse.kernel[...])
    assert np.std(feedback) == pytest.approx(0.1414, rel=0.03)
    np.testing.assert_array_equal(np.diag(feedback), 0)
    readout = norse.li_linear(400, 100, rngs=nnx.Rngs(0))
    assert np.std(readout.layers[0].kernel[...]) == pytest.approx(0.05, rel=0.02)


def test_li_cells(parity):
    golden = parity("norse_LICell__default")
    layer = run_and_record(norse.li(), golden["input"], "CuBaLI")
    close(layer.outputs, golden["v"])
    close(layer.states.i, golden["i"])
    golden = parity("norse_LILinearCell__default")
    network = norse.li_linear(6, 5, rngs=nnx.Rngs(0))
    network.layers[0].kernel[...] = jnp.asarray(golden["input_weights"].T)
    layer = run_and_record(network, golden["input"], "1_CuBaLI")
    close(layer.outputs, golden["v"])
    close(layer.states.i, golden["i"])


FEED_FORWARD = {
    "norse_bptt_ff_circ_a0.5": ("circ", 0.5),
    "norse_bptt_ff_heavi_erfc_a3.0": ("heavi_erfc", 3.0),
    "norse_bptt_ff_super_a10": ("super_released", 10.0),
    "norse_bptt_ff_super_a100": ("super_released", 100.0),
    "norsehead_bptt_ff_super_a10": ("super", 10.0),
    "norsehead_bptt_ff_super_a100": ("super", 100.0),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("stem", FEED_FORWARD)
def test_gradients_through_feed_forward_layers(parity, stem):
    golden = parity(stem)
    method, alpha = FEED_FORWARD[stem]

    def loss(w):
        z1 = jsnn.unroll(norse.lif(v_th=0.5, method=method, alpha=alpha), w["X"] @ w["W1"].T + w["b1"])[1]
        second = norse.lif(v_th=0.5, method=method, alpha=alpha)
        layer = jsnn.record(second, z1 @ w["W2"].T + w["b2"])["CuBaLIF"]
        outputs = jnp.stack([layer.outputs, layer.states.v], axis=1)
        return (outputs**2).sum(), (z1, outputs)

    weights = {name: jnp.asarray(golden[name]) for name in ("W1", "b1", "W2", "b2")}
    weights["X"] = jnp.asarray(golden["x"])
    gradients, (z1, outputs) = jax.jit(jax.grad(loss, has_aux=True))(weights)
    np.testing.assert_array_equal(z1, golden["z1_f32"])
    close(outputs, golden["out_f32"])
    for name, gradient in gradients.items():
        close(gradient, golden[f"g{name}_f32"], 1e-4)


RECURRENT = {
    "norse_bptt_rec_circ_a0.5": ("circ", 0.5),
    "norse_bptt_rec_super_a10": ("super_released", 10.0),
    "norse_bptt_rec_super_a100": ("super_released", 100.0),
    "norse_bptt_rec_tanh_a2.0": ("tanh", 2.0),
    "norse_bptt_rec_triangle_a0.5": ("triangle", 0.5),
    "norsehead_bptt_rec_super_a10": ("super", 10.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("stem", RECURRENT)
def test_gradients_through_recurrent_layer(parity, stem):
    golden = parity(stem)
    method, alpha = RECURRENT[stem]
    network = jsnn.Sequential(
        *norse.lif_recurrent(8, 10, rngs=nnx.Rngs(0), autapses=True, v_th=0.5, method=method, alpha=alpha).layers,
        *norse.li_linear(10, 4, rngs=nnx.Rngs(0)).layers,
    )
    network.layers[0].kernel[...] = jnp.asarray(golden["W1"].T)
    network.layers[1].synapse.kernel[...] = jnp.asarray(golden["WR"].T)
    network.layers[2].kernel[...] = jnp.asarray(golden["W2"].T)

    def loss(network, x):
        layers = jsnn.record(network, x)
        return (layers["3_CuBaLI"].outputs ** 2).sum(), layers

    (gradient, gradient_x), layers = jax.grad(loss, argnums=(0, 1), has_aux=True)(network, jnp.asarray(golden["x"]))
    np.testing.assert_array_equal(layers["1_Recurrent"].outputs, golden["z1_f32"])
    close(layers["3_CuBaLI"].outputs, golden["out_f32"])
    close(gradient_x, golden["gX_f32"], 1e-4)
    close(gradient.layers[0].kernel[...].T, golden["gW1_f32"], 1e-4)
    close(gradient.layers[1].synapse.kernel[...].T, golden["gWR_f32"], 1e-4)
    close(gradient.layers[2].kernel[...].T, golden["gW2_f32"], 1e-4)


def tutorial_loss(network, spikes, labels):
    layers = jsnn.record(network, spikes)
    voltages = layers[list(layers)[-1]].outputs
    log_probabilities = decode.max_over_time(voltages, log_softmax=True)
    return -log_probabilities[jnp.arange(labels.size), labels].mean(), (layers, log_probabilities)


def encoded(x, num_steps=32):
    images = jnp.moveaxis(jnp.asarray(x), 1, -1)
    return jsnn.unroll(norse.lif_current_encoder(), images, num_steps=num_steps)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "method"),
    [("norse_tutorial_snn_mnist", "super_released"), ("norsehead_tutorial_snn_mnist", "super")],
)
def test_recurrent_tutorial_network(parity, stem, method):
    golden = parity(stem)
    network = models.norse_recurrent(rngs=nnx.Rngs(0), method=method)
    network.layers[1].kernel[...] = jnp.asarray(golden["input_weights"].T)
    network.layers[2].synapse.kernel[...] = jnp.asarray(golden["recurrent_weights"].T)
    network.layers[3].kernel[...] = jnp.asarray(golden["fc_out"].T)
    spikes = encoded(golden["x"])
    np.testing.assert_array_equal(spikes.sum((1, 2, 3, 4)), golden["encoded_sum_per_step"])
    gradient, (layers, log_probabilities) = jax.grad(tutorial_loss, has_aux=True)(
        network, spikes, jnp.asarray(golden["labels"])
    )
    np.testing.assert_array_equal(layers["2_Recurrent"].outputs, golden["z"])
    close(layers["4_CuBaLI"].outputs, golden["voltages"])
    close(log_probabilities, golden["log_probs"])
    close(gradient.layers[1].kernel[...].T, golden["g_input_weights"], 1e-4)
    close(gradient.layers[2].synapse.kernel[...].T, golden["g_recurrent_weights"], 1e-4)
    close(gradient.layers[3].kernel[...].T, golden["g_fc_out"], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "method"),
    [("norse_tutorial_conv_mnist", "super_released"), ("norsehead_tutorial_conv_mnist", "super")],
)
def test_convolutional_tutorial_network(parity, stem, method):
    golden = parity(stem)
    network = models.norse_conv(rngs=nnx.Rngs(0), method=method)
    conv1, conv2, dense, readout = (network.layers[index] for index in (0, 3, 8, 11))
    for conv, name in ((conv1, "conv1"), (conv2, "conv2")):
        conv.kernel[...] = jnp.transpose(golden[f"{name}_w"], (2, 3, 1, 0))
        conv.bias[...] = jnp.asarray(golden[f"{name}_b"])

    def to_channels_last(weights):  # torch flattens [C, H, W], we flatten [H, W, C]
        return weights.reshape(500, 50, 4, 4).transpose(2, 3, 1, 0).reshape(800, 500)

    dense.kernel[...] = jnp.asarray(to_channels_last(golden["fc1_w"]))
    dense.bias[...] = jnp.asarray(golden["fc1_b"])
    readout.kernel[...] = jnp.asarray(golden["out_w"].T)

    gradient, (layers, log_probabilities) = jax.jit(jax.grad(tutorial_loss, has_aux=True))(
        network, encoded(golden["x"]), jnp.asarray(golden["labels"])
    )
    np.testing.assert_array_equal(layers["9_CuBaLIF"].outputs, golden["z"])
    close(layers["12_CuBaLI"].outputs, golden["voltages"])
    close(log_probabilities, golden["log_probs"])
    close(gradient.layers[11].kernel[...].T, golden["g_out_w"], 1e-4)
    close(gradient.layers[8].kernel[...], to_channels_last(golden["g_fc1_w"]), 1e-4)
    close(gradient.layers[8].bias[...], golden["g_fc1_b"], 1e-4)
    for index, name in ((0, "conv1"), (3, "conv2")):
        close(gradient.layers[index].kernel[...], golden[f"g_{name}_w"].transpose(2, 3, 1, 0), 1e-4)
        close(gradient.layers[index].bias[...], golden[f"g_{name}_b"], 1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norse.threshold("supr"), r"method must be one of super, .* got 'supr'"),
        (lambda: norse.threshold("circ", 0.0), r"alpha must be > 0, got 0.0"),
        (lambda: norse.lif_refrac(rho_reset=-1.0), "rho_reset must be >= 0, got -1.0"),
        (lambda: norse.lif_ex(delta_T=0.0), "delta_T must be > 0, got 0.0"),
        (lambda: norse.lif_adex(tau_ada_inv=-1.0), r"dt \* tau_ada_inv must be in \[0, 1\], got -0.001"),
        (lambda: norse.lsnn(tau_adapt_inv=1e4), r"dt \* tau_adapt_inv must be in \[0, 1\], got 10"),
        (lambda: norse.population(jnp.array([-1.0, -2.0]), 3), "the largest of x must be > 0, got -1.0"),
        *[
            (lambda cell=cell, options=options: cell(**options), message)
            for cell in (norse.lif, norse.lif_box, norse.lif_refrac, norse.lif_ex, norse.lif_adex, norse.lsnn)
            for options, message in (
                ({"tau_mem_inv": 2000.0}, r"dt \* tau_mem_inv must be in \[0, 1\], got 2.0"),
                ({"dt": 0.0}, "dt must be > 0, got 0.0"),
                ({"v_th": -1.0}, "v_th must be > 0, got -1.0"),
                ({"alpha": -1.0}, "alpha must be > 0, got -1.0"),
            )
        ],
    ],
)
def test_errors_name_what_the_user_gave(call, message):
    with pytest.raises(ValueError, match=message):
        call()


CELLS = {
    "LIFAdExCell__default": (norse.LIFAdExCell, {}, "w"),
    "LIFAdExCell__strong": (
        norse.LIFAdExCell,
        {"v_th": 0.6, "delta_T": 0.3, "adaptation_current": 0.5, "adaptation_spike": 0.4, "tau_ada_inv": 50.0},
        "w",
    ),
    "LIFExCell": (norse.LIFExCell, {"v_reset": -0.2}, None),
    "LIFRefracCell": (norse.LIFRefracCell, {"v_th": 0.5, "rho_reset": 3.0}, None),
    "LSNNCell": (norse.LSNNCell, {"v_th": 0.3, "tau_adapt_inv": 20.0, "beta": 0.4, "v_reset": -0.1}, None),
    "IAFCell": (norse.IAFCell, {"v_reset": 0.2}, None),
    "LIFBoxCell": (norse.LIFBoxCell, {"v_leak": 0.1, "v_reset": -0.1}, None),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("stem", CELLS)
def test_other_cells_give_norses_traces_and_gradients(parity, stem):
    make, parameters, adaptation = CELLS[stem]
    golden = parity(f"norse_{stem}")
    network = make(**parameters, method="super_released")

    def loss(inputs):
        layers = jsnn.record(network, inputs)
        *_, layer = layers.values()
        state = getattr(layer.states, "neuron", layer.states)
        return (layer.outputs**2).sum() + (state.v**2).sum(), (layers, layer.outputs, state)

    gradient, (layers, spikes, state) = jax.grad(loss, has_aux=True)(jnp.asarray(golden["input"]))
    np.testing.assert_array_equal(spikes, golden["z"])
    close(state.v, golden["v"])
    if adaptation is not None:
        close(getattr(state, adaptation), golden["a"])
    if len(layers) > 1:  # the current, which Norse keeps after its decay, or, in LSNNCell, after the input's jump
        current = next(iter(layers.values())).outputs
        close(current if stem == "LSNNCell" else 0.8 * current, golden["i"])
    if stem != "LIFRefracCell":
        close(gradient, golden["grad_input"], 1e-4)
