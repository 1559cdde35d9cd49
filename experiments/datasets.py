"""The data sets of an experiment, checked against all that it says of them."""

import dataclasses
import inspect

import jax

from experiments import config
from jsnn.data import Dataset


def load(experiment: config.Experiment) -> config.Sets:
    """Return the training, test and (where asked for) validation set, checked.

    Raises:
        ValueError: if they do not fit the experiment.
    """
    settings, loss = experiment.data, experiment.objective.loss
    if isinstance(settings, config.Recordings) and settings.length != experiment.num_steps:
        raise ValueError(f"num_steps must be data.length, {settings.length}, got {experiment.num_steps}")
    sets = settings.make()
    given = [*sets[:2], *(one for one in sets[2:] if one is not None)] if isinstance(sets, config.Sets) else [None]
    if not all(isinstance(one, Dataset) for one in given):
        raise ValueError(f"{type(settings).__name__}.make must return Sets(train, test), each a jsnn.data.Dataset")
    if settings.validation_split and sets.validation is None:
        raise ValueError(f"{type(settings).__name__}.make must return Sets with a validation set, as is asked for")
    classes = max(one.num_classes for one in given)
    if any(one.num_classes != classes for one in given):  # a small set may lack the last classes
        sets = config.Sets(*(one and dataclasses.replace(one, num_classes=classes) for one in sets))
    train = sets.train
    dtype = jax.dtypes.canonicalize_dtype(train.inputs.dtype)  # float64 becomes what JAX makes of it
    inputs = jax.ShapeDtypeStruct((1, *train.inputs.shape[1:]), dtype)
    try:
        jax.eval_shape(lambda inputs: settings.prepare(jax.random.key(0), inputs, training=True), inputs)
    except ValueError as error:
        raise ValueError(f"the examples of {settings.name} cannot be prepared as data says: {error}") from error
    are_classes = settings.has_classes(train)
    if loss.of_classes is not None and loss.of_classes != are_classes:
        are, other = ("classes", "cross_entropy") if are_classes else ("values", "mse")
        raise ValueError(
            f"objective.loss {loss.kind!r} is not for the targets of {settings.name}, which are {are}: take {other!r}, "
            f"or {other}_in_time where every step has a target"
        )
    for name, dataset in sets._asdict().items():
        if dataset is not None and dataset.inputs.shape[1:] != train.inputs.shape[1:]:
            raise ValueError(
                f"the {name} examples of {settings.name} must have the shape of the training examples, "
                f"{train.inputs.shape[1:]}, got {dataset.inputs.shape[1:]}"
            )
        if dataset is not None and dataset.in_time != train.in_time:
            raise ValueError(f"all sets of {settings.name} must be in_time, or none, got {name} {dataset.in_time}")
    if any(one.lengths is not None for one in given):
        for part in (experiment.objective.decoder, loss):
            arguments = inspect.signature(part.make()).parameters.values()
            if not any(one.name == "lengths" or one.kind is one.VAR_KEYWORD for one in arguments):
                raise ValueError(
                    f"{part.kind!r} takes no lengths, and the recordings of {settings.name} have different ones: give "
                    f"the function that {type(part).__name__}.make returns an argument `lengths`, [B]"
                )
    if train.in_time:
        experiment.encoder.make_in_time()
        if experiment.network.is_rate:
            raise ValueError(f"network {experiment.network.kind!r} knows no time, and {settings.name} has a time axis")
        steps = train.inputs.shape[1]
        if experiment.num_steps != steps:
            raise ValueError(
                f"num_steps must be {steps}, as the examples of {settings.name}, got {experiment.num_steps}"
            )
        if experiment.train.short_epochs:
            raise ValueError(f"train.short_epochs must be 0 for examples with a time axis, as those of {settings.name}")
    return sets
