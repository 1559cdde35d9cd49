"""Spiking Speech Commands, delays learned for every synapse: ready to run, not trained here yet.

    python -m experiments.run configs/ssc.py
    python -m experiments.run configs/ssc.py --data.name path/of/the/folder

tonic downloads the set, or a folder has ssc_train.h5, ssc_valid.h5 and ssc_test.h5. The numbers are those of
best_config_SSC.py in the authors' code, see `shd.py`. Their 80.7 ± 0.2% take 2.5 million parameters, two weights and
delays for each synapse; here each has one.
"""

import dataclasses

from configs import shd
from experiments.config import Delayed, Events, Experiment, Reference, Train


def get_config() -> Experiment:
    """The network of `shd.py` with three hidden layers of 512, for 35 words."""
    return dataclasses.replace(
        shd.get_config(),
        name="ssc",
        data=Events(name="tonic:SSC", shape=(700,), merge=5, window=10e3, start=0, length=100),
        network=Delayed(hidden=(512, 512, 512), max_delay=(30,), decay=1 / 3, readout_decay=1 / 3, dropout=0.25),
        train=Train(epochs=60, batch_size=128),
        reference={"test_accuracy": Reference(0.8069, "Hammouamri et al. (2024), two delays a synapse")},
    )
