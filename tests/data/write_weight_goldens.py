"""Writes the golden files of `tests/test_weights.py`: weights of other libraries, and what their networks compute.

    python tests/data/write_weight_goldens.py           with snnTorch, Norse, SpikingJelly and safetensors
    python tests/data/write_weight_goldens.py --keras   with Keras

`weights_NAME.safetensors` holds the weights, `weights_NAME.npz` the inputs and the outputs, [T, B, ...] with the
channels first (Keras: [B, ...], last); Keras' own files, mostly zeros, lie in there as bytes. Written with snntorch
1.0.0, norse 1.1.0, spikingjelly 2.0.0, safetensors 0.8.0 and keras 3.15.1.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STEPS, BATCH = 24, 2


def inputs(shape):
    """Random inputs in sixteenths, so that they take little room."""
    return np.random.default_rng(0).integers(-8, 25, shape).astype(np.float32) / 16


def save(name, x, outputs, **files):
    outputs = np.asarray(outputs)
    is_binary = set(np.unique(outputs)) <= {0, 1}
    path = HERE / f"weights_{name}.npz"
    kept = outputs.astype(np.uint8) if is_binary else outputs
    np.savez_compressed(path, inputs=(np.asarray(x) * 16).astype(np.int8), outputs=kept, **files)
    for file in HERE.glob(f"weights_{name}.*"):
        print(f"{file.name}: {file.stat().st_size:,} bytes, mean output {outputs.mean():.3f}")


def write_torch():
    import norse.torch as norse
    import snntorch
    import torch
    from safetensors.torch import save_file
    from spikingjelly.activation_based import layer, neuron
    from torch import nn

    def leaky(*args, **kwargs):
        return snntorch.Leaky(*args, **kwargs, init_hidden=True)

    def snntorch_dense():  # twelve modules, so that "10" comes before "2" in the file
        sizes, layers = (4, 7, 6, 6, 6, 6, 3), []
        for n, m in itertools.pairwise(sizes):
            linear = nn.Linear(n, m)
            linear.weight.data *= 4  # so that the last layer's spikes depend on the inputs
            layers += [linear, leaky(torch.linspace(0.3, 0.8, m), threshold=0.5, learn_beta=True)]
        return nn.Sequential(*layers), (4,)

    def snntorch_recurrent():
        cell = snntorch.RLeaky(0.8, threshold=0.4, linear_features=5, init_hidden=True)
        own = snntorch.RLeaky(0.7, V=0.3, all_to_all=False, threshold=0.3, init_hidden=True)
        return nn.Sequential(nn.Linear(4, 5), cell, nn.Linear(5, 3), own), (4,)

    def norse_conv():
        cell = norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.2)))
        recurrent = norse.LIFRecurrentCell(6, 5, norse.LIFRecurrentCell(6, 5).p._replace(v_th=torch.tensor(0.3)))
        return norse.SequentialState(
            nn.Conv2d(2, 3, 3), cell, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 6), recurrent,
            norse.LILinearCell(5, 2),
        ), (2, 6, 8)  # fmt: skip

    def spikingjelly_conv():
        norm = layer.BatchNorm2d(3)
        for array in (norm.weight.data, norm.running_var):
            array.uniform_(0.5, 2.0)
        for array in (norm.bias.data, norm.running_mean):
            array.uniform_(-0.3, 0.3)
        return nn.Sequential(
            layer.Conv2d(2, 3, 3, padding=1, bias=False), norm, neuron.ParametricLIFNode(3.0, v_threshold=0.4),
            layer.AvgPool2d(2), layer.Flatten(), layer.Linear(18, 4), neuron.LIFNode(v_threshold=0.1),
        ), (2, 4, 6)  # fmt: skip

    def run(network, x):
        state, outputs = None, []
        for current in x:
            y = network(current, state) if isinstance(network, norse.SequentialState) else network(current)
            y, state = y if isinstance(y, tuple) else (y, None)
            outputs.append(y.detach())
        return torch.stack(outputs)

    for make in (snntorch_dense, snntorch_recurrent, norse_conv, spikingjelly_conv):
        for seed in itertools.count():  # the first weights with which all outputs vary
            torch.manual_seed(seed)
            network, shape = make()
            network.eval()
            arrays = {name: array.clone().contiguous() for name, array in network.state_dict().items()}
            x = torch.tensor(inputs((STEPS, BATCH, *shape)))
            outputs = run(network, x)
            if (outputs.std(0) > 0.2 * outputs.std()).all():
                break
        save_file(arrays, HERE / f"weights_{make.__name__}.safetensors")
        save(make.__name__, x, outputs)


def write_keras():
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((5, 6, 2)), layers.Conv2D(3, 3, activation="relu"), layers.BatchNormalization(epsilon=1e-5),
        layers.Flatten(), layers.Dense(4, activation="relu", name="hidden"), layers.Dense(2, name="a_last"),
    ])  # fmt: skip
    drawn = np.random.default_rng(1)
    model.set_weights([array + drawn.uniform(0.1, 0.5, array.shape) for array in model.get_weights()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        model.save(path / "model.keras")
        model.save(path / "model.h5")  # the format of Keras 2
        model.save_weights(path / "model.weights.h5")
        files = {file.name: np.frombuffer(file.read_bytes(), np.uint8) for file in sorted(path.iterdir())}
    files |= {f"arr_{index}": array for index, array in enumerate(model.get_weights())}
    x = inputs((BATCH, 5, 6, 2))
    save("keras", x, model.predict(x, verbose=0), **files)


if __name__ == "__main__":
    write_keras() if "--keras" in sys.argv else write_torch()
