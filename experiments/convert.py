"""Makes a trained rate network spike, as a config says, and tries other settings of the conversion."""

import dataclasses
import itertools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from rich.console import Console

import jsnn
from experiments import config, files
from experiments.loop import Run
from experiments.testing import show, subject_of
from jsnn import conversion

Row: TypeAlias = dict[str, float | None]


def convert(run: Run, settings: config.Conversion) -> conversion.Converted:
    """Return the network that a run has trained, made to spike."""
    model = run.network()
    assert callable(model)  # Experiment admits a conversion of rate networks only
    images = run.sets.train.inputs[: settings.calibration.images if settings.calibration else 1]
    example = run.experiment.data.prepare(run.key, jnp.asarray(images), training=False)
    neuron = {"spiking_activation": jsnn.SpikingActivation, "burst_if": jsnn.BurstIF, "if": jsnn.IF}[settings.neuron]
    network = jsnn.convert(
        model,
        example,
        swap={jax.nn.relu: neuron()},
        scale_firing_rates=settings.scale,
        synapse=settings.synapse,
        dt=settings.dt,
        v_init=jax.random.key(run.experiment.seed) if settings.v_init == "random" else settings.v_init,
    )
    if settings.calibration is None:
        return network
    return conversion.calibrate(
        network,
        example,
        percentile=settings.calibration.percentile,
        spikes_per_step=settings.calibration.spikes_per_step,
        per_channel=settings.calibration.per_channel,
        v_init=None,
        bias_steps=settings.num_steps if settings.calibration.bias_correction else None,
    )


def sweep(run: Run, console: Console) -> list[Row]:
    """Return a row for every combination of an experiment's sweep, and write them into `sweep.csv`; [] without any."""
    settings, sweep = run.experiment.conversion, run.experiment.sweep
    if settings is None or sweep == config.Sweep():
        return []
    rows: list[Row] = []
    steps = sorted(sweep.steps) or [settings.num_steps]
    for one in combinations(settings, sweep):
        with console.status(f"converting with scale {one.scale}, synapse {one.synapse}, dt {one.dt}"):
            subject = subject_of(run, convert(run, one))._replace(dt=one.dt)
            passes = show(run, subject, steps)
        varied: Row = {"scale": one.scale, "synapse": one.synapse, "dt": one.dt}
        rows += [{**varied, "num_steps": length, **seen.metrics(subject)} for length, seen in zip(steps, passes)]
    files.write_whole(run.folder / "sweep.csv", files.as_csv(rows))
    return rows


def combinations(settings: config.Conversion, sweep: config.Sweep) -> list[config.Conversion]:
    """Return every combination of a sweep's values, those that it does not name as they are in the settings."""
    names = [field.name for field in dataclasses.fields(sweep) if field.name != "steps" and getattr(sweep, field.name)]
    return [
        dataclasses.replace(settings, **dict(zip(names, values)))
        for values in itertools.product(*(getattr(sweep, name) for name in names))
    ]
