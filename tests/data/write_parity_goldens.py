"""Writes those golden vectors of `tests/data/parity` that norse 1.1.0 and snntorch 1.0.0 give without a GPU or data.

    python tests/data/write_parity_goldens.py

Arrays are [T, B, N], those of states after each step. `grad_input` is of the sum of squares of spikes and membranes.
"""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent / "parity"
STEPS, BATCH, NEURONS = 50, 3, 5


def save(stem, call, library, version, **arrays):
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    meta = {"library": library, "version": version, "torch": torch.__version__, "layout": "(T,B,N)", "call": call}
    np.savez_compressed(HERE / f"{stem}.npz", meta=json.dumps(meta), **arrays)
    rate = arrays["z" if library == "norse" else "spk"].mean()
    print(f"{stem}: {(HERE / f'{stem}.npz').stat().st_size:,} bytes, mean rate {rate:.3f}")


def write_norse():
    import norse.torch as norse
    from norse.torch.functional.lif_refrac import LIFRefracParameters

    def parameters(kind, **values):
        return kind(**{name: torch.as_tensor(value) for name, value in values.items()})

    lif = parameters(norse.LIFParameters, v_th=0.5)
    adex = {"v_th": 0.6, "delta_T": 0.3, "adaptation_current": 0.5, "adaptation_spike": 0.4, "tau_ada_inv": 50.0}
    lsnn = {"v_th": 0.3, "tau_adapt_inv": 20.0, "beta": 0.4, "v_reset": -0.1}
    # the sizes of the inputs make each of them spike at about every fifth step
    cells = {
        "LIFAdExCell__default": (norse.LIFAdExCell(), 1.0),
        "LIFAdExCell__strong": (norse.LIFAdExCell(parameters(norse.LIFAdExParameters, **adex)), 1.0),
        "LIFExCell": (norse.LIFExCell(parameters(norse.LIFExParameters, v_reset=-0.2)), 1.0),
        "LIFRefracCell": (norse.LIFRefracCell(LIFRefracParameters(lif, torch.as_tensor(3.0))), 2.0),
        "LSNNCell": (norse.LSNNCell(parameters(norse.LSNNParameters, **lsnn)), 1.0),
        "IAFCell": (norse.IAFCell(parameters(norse.IAFParameters, v_reset=0.2)), 0.5),
        "LIFBoxCell": (norse.LIFBoxCell(parameters(norse.LIFBoxParameters, v_leak=0.1, v_reset=-0.1)), 6.0),
    }
    for stem, (cell, size) in cells.items():
        drawn = np.random.default_rng(0).normal(0.4, 1, (STEPS, BATCH, NEURONS))
        x = torch.tensor((size * drawn).astype(np.float32), requires_grad=True)
        state, spikes, states = None, [], []
        for current in x:
            z, state = cell(current, state)
            spikes.append(z)
            states.append(state.lif if hasattr(state, "lif") else state)
        arrays = {key: torch.stack([getattr(s, key).expand(x[0].shape) for s in states]) for key in states[0]._fields}
        arrays["z"] = torch.stack(spikes)
        (arrays["z"] ** 2 + arrays["v"] ** 2).sum().backward()
        arrays |= {"input": x, "grad_input": x.grad}
        arrays = {key: array.detach() for key, array in arrays.items()}
        save(f"norse_{stem}", f"{type(cell).__name__}({cell.p})", "norse", "1.1.0", **arrays)


def write_snntorch():
    import snntorch

    for all_to_all in (False, True):
        for reset in ("subtract", "zero", "none"):
            torch.manual_seed(0)
            shape = {"linear_features": NEURONS} if all_to_all else {"V": 0.4}
            neuron = snntorch.RSynaptic(0.5, 0.7, all_to_all=all_to_all, reset_mechanism=reset, **shape)
            x = torch.tensor(np.random.default_rng(1).normal(0.05, 0.6, (STEPS, BATCH, NEURONS)).astype(np.float32))
            state, steps = neuron.reset_mem(), []
            for current in x:
                state = neuron(current, *state)
                steps.append(state)
            spk, syn, mem = (torch.stack(part).detach() for part in zip(*steps))
            weights = {f"rec_{name}": value.detach() for name, value in neuron.recurrent.named_parameters()}
            stem = f"snntorch_RSynaptic__{reset}_all2all{all_to_all}"
            save(stem, f"RSynaptic(0.5,0.7,{shape},reset_mechanism={reset!r})", "snntorch", "1.0.0",
                 input=x, spk=spk, syn=syn, mem=mem, **weights)  # fmt: skip


if __name__ == "__main__":
    write_norse()
    write_snntorch()
