"""What of a run may be set anew: nothing that changes the numbers of what it has trained."""

import dataclasses
import enum
import types

import pytest

from experiments import commands, config, fields, overrides
from experiments.config import (
    Conversion,
    Data,
    Experiment,
    Mesh,
    Objective,
    Optimizer,
    RateDense,
    SpikingDense,
    Study,
    Train,
)

BEFORE = Experiment(network=RateDense(), data=Data(validation_split="train[90%:]"), train=Train(epochs=4, patience=2))


def changed(**fields):
    return dataclasses.replace(BEFORE, **fields)


@pytest.mark.parametrize(
    ("after", "trained", "refused"),
    [
        (BEFORE, 2, ""),
        (changed(name="other", mesh=Mesh(data=1), reference={"test_accuracy": 0.9}, conversion=Conversion()), 2, ""),
        (changed(data=dataclasses.replace(BEFORE.data, residence="host")), 2, ""),
        (changed(train=Train(epochs=9, patience=None)), 2, ""),
        (changed(train=Train(epochs=2, patience=3)), 2, ""),
        (changed(train=Train(epochs=1, patience=2)), 2, "train.epochs 1 in place of 4"),
        (changed(train=Train(epochs=4, patience=1)), 2, "train.patience 1 in place of 2"),
        (changed(seed=5, train=Train(epochs=4, patience=2, batch_size=9)), 0, "seed 5 in place of 0, train.batch_size"),
        (changed(optimizer=Optimizer(learning_rate=1.0)), 2, "optimizer.learning_rate 1.0 in place of 0.001: 2 epochs"),
        (changed(objective=Objective(rate_penalty=1.0)), 2, "objective.rate_penalty"),
        (changed(network=RateDense(hidden=(3,))), 2, r"network.hidden \[3\] in place of \[128\]"),
        (changed(data=dataclasses.replace(BEFORE.data, test_split="train")), 2, "data.test_split"),
        (changed(train=Train(epochs=4, patience=2, weights="other")), 2, "train.weights"),
    ],
)
def test_going_on(after, trained, refused):
    if not refused:
        overrides.check_resume(BEFORE, after, trained)
    else:
        with pytest.raises(ValueError, match=refused):
            overrides.check_resume(BEFORE, after, trained)


class Inner(config.Settings):
    """Settings whose fields are all None."""

    size: float | None = None


class OwnNetwork(config.Feedforward):
    """May have something inside."""

    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"network": OwnNetwork(inner=Inner())}, ["network.inner {'size': None} in place of None"]),
        ({"network": OwnNetwork(inners=(Inner(),))}, ["network.inners [{'size': None}] in place of []"]),
        ({"optimizer": Optimizer(options={"b1": 0.5})}, ["optimizer.options.b1 0.5 in place of nothing"]),
        ({"reference": {"test_accuracy": 0.5}}, ["reference.test_accuracy"]),
        ({}, []),
    ],
)
def test_what_differs_is_said_once(fields, said):
    before = changed(network=OwnNetwork())
    found = overrides.changes(before, dataclasses.replace(before, **fields))
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said))


class OwnOptimizer(Optimizer):
    """May have a schedule of its own."""

    def make(self, total_steps):
        """Return nothing."""


@pytest.mark.parametrize(
    "part",
    [
        {"optimizer": Optimizer(schedule="cosine")},
        {"optimizer": OwnOptimizer()},
        {"network": SpikingDense(), "objective": Objective(dt_end=0.1)},
        {"network": config.Delayed()},
        {"network": config.Competitive()},
        {"train": Train(epochs=4, patience=2, short_epochs=4)},
    ],
    ids=str,
)
def test_more_epochs_change_what_a_schedule_has_done(part):
    before = changed(**part)
    after = dataclasses.replace(before, train=dataclasses.replace(before.train, epochs=9))
    with pytest.raises(ValueError, match=r"train\.epochs 9 in place of 4, the schedule of the training depends on"):
        overrides.check_resume(before, after, 2)


def test_an_epoch_that_was_begun_cannot_be_left_out():
    info = {"records": [{}, {}], "sums": {"loss": 1.0}}
    checkpoints = types.SimpleNamespace(last=25, info=lambda step: info)
    run = types.SimpleNamespace(checkpoints=checkpoints, experiment=changed(train=Train(epochs=2, patience=2)))
    with pytest.raises(ValueError, match=r"train\.epochs 2 in place of 4: 3 epochs were trained"):
        commands._go_on(run, BEFORE, "last")


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"mesh": Mesh(data=1)}, True),
        ({"train": dataclasses.replace(BEFORE.train, eval_batch_size=9)}, True),
        ({"num_steps": 9}, True),
        ({"data": dataclasses.replace(BEFORE.data, test_split="train")}, True),
        ({"seed": 9}, False),
        ({"network": RateDense(hidden=(9,))}, False),
        ({"conversion": Conversion()}, False),
        ({"reference": {"test_accuracy": 0.9}}, False),
    ],
)
def test_an_evaluation_takes_the_network_as_it_is(fields, allowed):
    if allowed:
        overrides.check_evaluate(BEFORE, changed(**fields))
    else:
        with pytest.raises(ValueError, match="in place of"):
            overrides.check_evaluate(BEFORE, changed(**fields))


def test_a_study_goes_on_as_it_is():
    study = Study(name="study", stages=(BEFORE,))
    overrides.check_study(study, study)
    with pytest.raises(ValueError, match=r"^stages\.0\.seed 3 in place of 0: a study goes on as it was begun"):
        overrides.check_study(study, Study(name="study", stages=(changed(seed=3),)))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Coloured(config.Feedforward):
    """Has a field of an enumeration."""

    colour: Colour = Colour.RED


def test_an_enumeration_is_set_by_its_values_as_in_config_json():
    before = changed(network=Coloured())
    after = fields.override(before, ["--network.colour", "blue"], "config", "")
    assert after.network.colour is Colour.BLUE
    assert overrides.changes(before, after) == ["network.colour blue in place of red"]


def test_names_with_values_are_not_fields():
    with pytest.raises(ValueError, match=r"--optimizer\.options takes names and values in turn: .* weight_decay 0\.1$"):
        fields.override(BEFORE, ["--optimizer.options.weight_decay", "1e-4"], "config", "")


def test_a_field_of_an_experiment_is_set_in_all_stages_of_a_study():
    study = config.Study(name="study", stages=(config.Experiment(name="one"), config.Experiment(name="two")))
    arguments = ["--learning", "ottt", "--learning.no-compare", "--stages.1.train.epochs", "7", "--num-steps=5"]
    found = fields.override(study, arguments, "study", "")
    assert [stage.learning for stage in found.stages] == [config.Ottt(compare=False)] * 2
    assert [stage.train.epochs for stage in found.stages] == [10, 7]
    assert [stage.num_steps for stage in found.stages] == [5, 5]
    with pytest.raises(ValueError, match="there is no field --learned"):
        fields.override(study, ["--learned", "ottt"], "study", "")
