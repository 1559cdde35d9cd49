"""Make parity/eventprop_eventax.npz: first spike times and their gradients by `eventax`, which solves between events.

    pip install eventax && python tests/data/write_event_goldens.py

Points of the yin-yang task, (x, y, 1 - x, 1 - y) as times within 30 ms and a bias spike at 0, through two layers of
current-based LIF neurons, v' = (i - v) / 20 ms, i' = -i / 5 ms. In float64; the loss is 1, 2, 3 times the first spikes.
"""

from pathlib import Path

import numpy as np

POINTS = [(0.5, 0.8), (0.25, 0.5), (0.6, 0.2), (0.85, 0.55)]
HIDDEN, OUTPUTS = 6, 3


def main():
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optimistix
    from eventax.evnn import EvNN
    from eventax.neuron_models import LIF

    jax.config.update("jax_enable_x64", True)
    random = np.random.default_rng(0)
    first, second = random.normal(4.5, 2, (5, HIDDEN)), random.normal(3, 1.5, (HIDDEN, OUTPUTS))
    count = HIDDEN + OUTPUTS
    weights = np.zeros((count + 5, count))
    weights[count:, :HIDDEN], weights[:HIDDEN, HIDDEN:] = first, second

    model = EvNN(LIF, count, 0.09, 5, jax.random.key(0), wmask=jnp.asarray(weights != 0, float), dtype=jnp.float64,
        output_neurons=jnp.arange(count) >= HIDDEN, solver=diffrax.Tsit5(), solver_stepsize=1e-4, max_event_steps=100,
        root_finder=optimistix.Newton(1e-12, 1e-12), init_weights=weights, init_bias=0.0, thresh=1.0, tsyn=0.005,
        tmem=0.02)  # fmt: skip

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def loss(model, times):
        found = model.ttfs(times[:, None])
        return found @ jnp.arange(1.0, 1 + OUTPUTS), found

    arrays = {"points": np.array(POINTS), "first": first, "second": second}
    results = []
    for x, y in POINTS:
        times = 0.03 * jnp.array([x, y, 1 - x, 1 - y, 0.0])
        (_, found), gradient = loss(model, times)
        gradient = gradient.neuron_model.weights
        results.append((found, gradient[count:, :HIDDEN], gradient[:HIDDEN, HIDDEN:]))
    for name, values in zip(("times", "of_first", "of_second"), zip(*results)):
        arrays[name] = np.array(values)
    print({name: array.shape for name, array in arrays.items()}, arrays["times"], arrays["of_second"][0])
    np.savez_compressed(Path(__file__).parent / "parity" / "eventprop_eventax.npz", **arrays)


if __name__ == "__main__":
    main()
