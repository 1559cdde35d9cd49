"""Make spikingjelly_models.npz: the outputs of SpikingJelly's residual networks and its Spikformer.

    pip install torch spikingjelly && PYTHONPATH=tests python tests/data/write_model_goldens.py

The weights are not kept, only their names and shapes: `golden.draw_weights` gives the same numbers again. All is in
float64, so that no membrane crosses its threshold by rounding.
"""

import json
from pathlib import Path

import numpy as np
from golden import draw_weights

STEPS = 4


def main():
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.model import ms_resnet, sew_resnet, spikformer

    def lif(**_):
        return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)

    ms = {"layers": (1, 2, 1), "base_channels": 16, "num_classes": 10, "stem_kernel_size": 3, "stem_stride": 1}
    models = {
        "sew_resnet18": (sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=lif), (2, 3, 64, 64)),
        "sew_resnet50": (sew_resnet.sew_resnet50(cnf="IAND", spiking_neuron=lif), (1, 3, 32, 32)),
        "ms_resnet": (ms_resnet.MSResNet(T=STEPS, **ms), (2, 3, 32, 32)),
        "spikformer": (spikformer.spikformer_cifar10(T=STEPS), (2, 3, 32, 32)),
    }
    arrays = {}
    for name, (model, shape) in models.items():
        functional.set_step_mode(model, "m")
        shapes = {key: list(value.shape) for key, value in model.state_dict().items() if value.ndim}
        model = model.double().eval()
        model.load_state_dict({key: torch.tensor(value) for key, value in draw_weights(shapes).items()}, strict=False)
        image = np.random.default_rng(1).normal(size=shape)
        with torch.no_grad():
            logits = model(torch.tensor(image)[None].repeat(STEPS, *[1] * len(shape)))
        arrays[f"{name}.shapes"] = np.array(json.dumps(shapes))
        arrays[f"{name}.image_shape"] = np.array(shape)
        arrays[f"{name}.logits"] = logits.numpy()
        print(name, logits.shape, float(logits.std()), sum(np.prod(shape) for shape in shapes.values()))
    np.savez_compressed(Path(__file__).with_name("spikingjelly_models.npz"), **arrays)


if __name__ == "__main__":
    main()
