"""Spiking Heidelberg Digits, delays learned for every synapse: ready to run, not trained here yet.

    python -m experiments.run configs/shd.py
    python -m experiments.run configs/shd.py --data.name path/of/the/folder

tonic downloads the set, or a folder has shd_train.h5 and shd_test.h5. The numbers are those of best_config_SHD.py in
the authors' code: Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using
dilated convolutions with learnable spacings" (ICLR 2024). They reset to 0, add up the softmax of each step, have
weight_decay 1e-5, and a schedule for the delays alone. Their 95.1% is that of the best epoch on the test set; with a
validation set others measured 93.8 ± 0.7%.
"""

from experiments.config import CrossEntropy, Delayed, Events, Experiment, Objective, Optimizer, Reference, Sum, Train


def get_config() -> Experiment:
    """Two delayed layers of 256; 700 channels become 140, a second 100 steps of 10 ms."""
    return Experiment(
        name="shd",
        num_steps=100,
        data=Events(name="tonic:SHD", shape=(700,), merge=5, window=10e3, start=0, length=100),
        network=Delayed(hidden=(256, 256), max_delay=(24,), decay=0.005, readout_decay=0.005, dropout=0.4),
        objective=Objective(decoder=Sum(), loss=CrossEntropy()),
        optimizer=Optimizer(learning_rate=5e-3, schedule="warmup_cosine", warmup=0.3, delay_factor=20.0),
        train=Train(epochs=150, batch_size=256),
        reference={"test_accuracy": Reference(0.9507, "Hammouamri et al. (2024), the best epoch on the test set")},
    )
