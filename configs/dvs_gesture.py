"""DVS128 Gesture, a small spiking residual network: ready to run, not trained here yet.

    python -m experiments.run configs/dvs_gesture.py
    python -m experiments.run configs/dvs_gesture.py --data.name path/of/the/folder

tonic downloads the set, or a folder has it as IBM or tonic lays it out.
"""

from experiments.config import Events, Experiment, Mean, Objective, Optimizer, SpikingResNet, Train


def get_config() -> Experiment:
    """16 frames of 64x64 pixels and two polarities, equal parts of each recording."""
    return Experiment(
        name="dvs_gesture",
        num_steps=16,
        data=Events(name="tonic:DVSGesture", shape=(128, 128, 2), merge=2, length=16, flip=False, shift=4),
        network=SpikingResNet(depth=(1, 1, 1), stem="pooled", channels=16),
        objective=Objective(decoder=Mean()),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.03},
            schedule="warmup_cosine",
        ),
        train=Train(epochs=60, batch_size=16),
    )
