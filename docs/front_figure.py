"""Draws figures/digits.png of the README and the front page: a digit, the spikes it causes, and what is made of them.

Run it from the root of the repository: `python docs/front_figure.py`.
"""

import runpy
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import jsnn

HERE = Path(__file__).parent
STEPS, SAMPLE = 16, 4


def main() -> None:
    """Train the network of `examples/02_by_hand.py`, and draw what it does with one image."""
    network, _ = runpy.run_path(str(HERE.parent / "examples" / "02_by_hand.py"))["main"]()
    test = jsnn.data.load("digits", "test")
    image, label = test.images[SAMPLE], int(test.labels[SAMPLE])
    layers = jsnn.record(network, image[None] / 255, num_steps=STEPS, keep=["outputs"])
    spikes, outputs = (np.asarray(layers[name].outputs)[:, 0] for name in ("2_LIF", "4_LI"))
    figure = Figure(figsize=(9, 2.9), dpi=150, layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(0.8, 1.6, 1.6))
    axes[0].imshow(image[..., 0], cmap="gray_r")
    axes[0].set_axis_off()
    axes[0].set_title(f"a handwritten {label}", fontsize="medium")
    jsnn.plot.raster(spikes, ax=axes[1])
    axes[1].set_title("spikes of the hidden layer", fontsize="medium")
    jsnn.plot.output_traces(outputs, target=label, ax=axes[2])
    axes[2].set_title("membranes of the ten readouts", fontsize="medium")
    figure.savefig(HERE / "figures" / "digits.png")


if __name__ == "__main__":
    main()
