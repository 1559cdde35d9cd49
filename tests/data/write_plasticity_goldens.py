"""Make plasticity_brian2.npz: weights and currents of the plasticity rules as Brian2 computes them.

    pip install brian2 "numpy<2.4" && python tests/data/write_plasticity_goldens.py

All is in float64. Within a step Brian2 lets traces decay, then runs `on_pre`, then `on_post`: the order of jsnn.
"""

from pathlib import Path

import numpy as np

STEPS, INPUTS, OUTPUTS, DT = 150, 3, 2, 1e-3

STDP = {"tau_pre": 15e-3, "tau_post": 25e-3, "potentiation": 0.06, "depression": 0.05}
TRIPLET = {
    "tau_pre": 16.8e-3, "tau_post": 33.7e-3, "tau_pre_slow": 101e-3, "tau_post_slow": 125e-3, "potentiation": 0.01,
    "potentiation_triplet": 0.05, "depression": 0.03, "depression_triplet": 0.02,
}  # fmt: skip
REWARD = STDP | {"tau_eligibility": 60e-3, "tau_reward": 20e-3, "rate": 0.2}
SHORT_TERM = {
    "depressing": {"use": 0.5, "tau_recovery": 80e-3},
    "facilitating": {"use": 0.15, "tau_recovery": 50e-3, "tau_facilitation": 120e-3},
}

TRACE = "d{0}/dt = -{0} / tau_{0} : 1 (event-driven)\n"
RAISE = "w = clip(w + {} * (1 - w) ** softness, 0, 1)\n"
LOWER = "w = clip(w - {} * w ** softness, 0, 1)\n"


def simulate(brian2, spikes, namespace, model, on_pre, on_post=None, at_end=None):
    """Return the weights [T, I, N] and currents [T, N] of a network with these synapses."""
    brian2.start_scope()
    brian2.defaultclock.dt = DT * brian2.second

    def source(trains):
        steps, neurons = np.nonzero(trains)
        return brian2.SpikeGeneratorGroup(trains.shape[1], neurons, steps * DT * brian2.second)

    pre, post = source(spikes["pre"]), source(spikes["post"])
    target = brian2.NeuronGroup(OUTPUTS, "current : 1")
    target.run_regularly("current = 0", when="start")
    seconds = {name: x * brian2.second if name.startswith("tau") else x for name, x in namespace.items()}
    ends = (pre, post) if on_post else (pre, target)
    synapses = brian2.Synapses(*ends, model, on_pre=on_pre, on_post=on_post, namespace=seconds, method="exact")
    synapses.connect()
    synapses.w = spikes["weights"].ravel()
    synapses.pre.order = 0
    if on_post:
        synapses.post.order = 1
    else:
        synapses.resources = 1
    if at_end:
        synapses.run_regularly("reward_trace += reward(t)", when="after_synapses")
        synapses.run_regularly(at_end, when="end", order=0)
    weights = brian2.StateMonitor(synapses, "w", True, when="end", order=1)
    currents = brian2.StateMonitor(target, "current", True, when="end")
    brian2.Network(pre, post, target, synapses, weights, currents).run(STEPS * DT * brian2.second)
    return weights.w.T.reshape(STEPS, INPUTS, OUTPUTS), currents.current.T


def main():
    import brian2

    brian2.prefs.codegen.target = "numpy"
    random = np.random.default_rng(0)
    spikes = {
        "pre": random.random((STEPS, INPUTS)) < 0.2,
        "post": random.random((STEPS, OUTPUTS)) < 0.2,
        "weights": random.uniform(0.3, 0.7, (INPUTS, OUTPUTS)),
        "reward": random.normal(size=STEPS) * (random.random(STEPS) < 0.3),
    }
    arrays = dict(spikes)
    for pairing, mark in (("all", "{0} += 1\n"), ("nearest", "{0} = 1\n")):
        for softness in (0.0, 0.5, 1.0):
            arrays[f"stdp.{pairing}.{softness}"], _ = simulate(
                brian2, spikes, STDP | {"softness": softness}, "w : 1\n" + TRACE.format("pre") + TRACE.format("post"),
                LOWER.format("depression * post") + mark.format("pre"),
                RAISE.format("potentiation * pre") + mark.format("post"),
            )  # fmt: skip
        arrays[f"triplet.{pairing}"], _ = simulate(
            brian2, spikes, TRIPLET | {"softness": 0.0},
            "w : 1\n" + "".join(map(TRACE.format, ("pre", "post", "pre_slow", "post_slow"))),
            LOWER.format("post * (depression + depression_triplet * pre_slow)")
            + mark.format("pre") + mark.format("pre_slow"),
            RAISE.format("pre * (potentiation + potentiation_triplet * post_slow)")
            + mark.format("post") + mark.format("post_slow"),
        )  # fmt: skip
    reward = brian2.TimedArray(spikes["reward"], dt=DT * brian2.second)
    arrays["reward_stdp"], _ = simulate(
        brian2, spikes, REWARD | {"reward": reward},
        "w : 1\ndeligibility/dt = -eligibility / tau_eligibility : 1 (clock-driven)\n"
        "dreward_trace/dt = -reward_trace / tau_reward : 1 (clock-driven)\n"
        + TRACE.format("pre") + TRACE.format("post"),
        "eligibility -= depression * post\npre += 1\n", "eligibility += potentiation * pre\npost += 1\n",
        "w = clip(w + rate * reward_trace * eligibility, 0, 1)",
    )  # fmt: skip
    for kind, numbers in SHORT_TERM.items():
        use = "dutilization/dt = -utilization / tau_facilitation : 1 (event-driven)\n"
        if kind == "depressing":
            use = "utilization : 1\n"
        _, arrays[f"short_term.{kind}"] = simulate(
            brian2, spikes, numbers,
            "w : 1\nreleased : 1\ndresources/dt = (1 - resources) / tau_recovery : 1 (event-driven)\n" + use,
            ("utilization = use\n" if kind == "depressing" else "utilization += use * (1 - utilization)\n")
            + "released = utilization * resources\nresources -= released\ncurrent_post += w * released",
        )  # fmt: skip
    np.savez_compressed(Path(__file__).with_name("plasticity_brian2.npz"), **arrays)


if __name__ == "__main__":
    main()
