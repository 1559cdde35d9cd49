"""Make delays_dcls.npz: outputs and gradients of `dcls`, the package of the paper on learned delays.

    pip install torch dcls && python tests/data/write_delay_goldens.py

All is in float64. The loss is the sum of the outputs times given numbers.
"""

from pathlib import Path

import numpy as np

STEPS, BATCH, INPUTS, OUTPUTS = 9, 2, 3, 4
CASES = {"gauss": (0.27, (0.5, 3.0)), "max": (1.0, (1.0, 2.5))}  # what dcls adds to |SIG|, and the widths


def main():
    import torch
    from DCLS.construct.modules import Dcls1d

    arrays = {}
    for version, (least, widths) in CASES.items():
        for width in widths:
            for taps in (6, 7):
                random = np.random.default_rng(taps)
                module = Dcls1d(INPUTS, OUTPUTS, 1, dilated_kernel_size=taps, bias=False, version=version).double()
                delay = random.uniform(0, taps - 1, (INPUTS, OUTPUTS))
                with torch.no_grad():
                    module.weight.copy_(torch.tensor(random.normal(size=(OUTPUTS, INPUTS, 1))))
                    module.P.copy_(torch.tensor((taps - 1 - delay - taps // 2).T[None, :, :, None]))
                    module.SIG.fill_(width - least)
                x = torch.tensor(random.normal(size=(STEPS, BATCH, INPUTS)), requires_grad=True)
                given = random.normal(size=(STEPS, BATCH, OUTPUTS))
                y = module(torch.nn.functional.pad(x.permute(1, 2, 0), (taps - 1, 0))).permute(2, 0, 1)
                (y * torch.tensor(given)).sum().backward()
                arrays |= {
                    f"{version}.{width}.{taps}.{name}": value
                    for name, value in {
                        "kernel": module.weight.detach().numpy()[..., 0].T,
                        "delay": delay,
                        "x": x.detach().numpy(),
                        "given": given,
                        "y": y.detach().numpy(),
                        "d_kernel": module.weight.grad.numpy()[..., 0].T,
                        "d_delay": -module.P.grad.numpy()[0, ..., 0].T,  # a position is the largest delay less a delay
                        "d_x": x.grad.numpy(),
                    }.items()
                }
    np.savez_compressed(Path(__file__).with_name("delays_dcls.npz"), **arrays)


if __name__ == "__main__":
    main()
