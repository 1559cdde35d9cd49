"""What the numbers of a run mean: the headline, what was decided on what, references, runs of less than a config."""

import dataclasses

import pytest

from configs import cifar10_bn, cifar10_conversion, fashion_mnist_spiking, mnist_recurrent
from experiments import config, meaning, overrides
from experiments.config import Conversion, Data, Experiment, RateDense, Reference, Train
from experiments.fields import override

FULL = Experiment(train=Train(epochs=10), reference={"test_accuracy": Reference(0.9, "a paper")})


@pytest.mark.parametrize(
    ("referenced", "headline"),
    [
        ([], "mean_accuracy"),
        (["last_accuracy"], "last_accuracy"),
        (["mean_accuracy"], "mean_accuracy"),
        (["last_accuracy", "mean_accuracy"], "mean_accuracy"),
        (["test_accuracy"], "mean_accuracy"),
    ],
)
def test_the_headline_is_the_accuracy_with_a_reference(referenced, headline):
    experiment = Experiment(network=RateDense(), conversion=Conversion(), reference=dict.fromkeys(referenced, 0.5))
    assert meaning.headline(experiment) == headline
    of_values = {"data": Data(reconstruct=True), "objective": config.Objective(loss="mse")}
    reference = {name.replace("accuracy", "mse"): 0.5 for name in referenced}
    experiment = dataclasses.replace(experiment, **of_values, reference=reference)
    assert meaning.headline(experiment) == headline.replace("accuracy", "mse")
    assert meaning.headline(experiment) in meaning.decisions(experiment)


def test_every_mean_says_over_what():
    decided = meaning.decisions(cifar10_conversion.get_config())
    assert decided["last_accuracy"] == "the output of the last of 30 steps"
    assert decided["mean_accuracy"] == "the mean output over the last 10 of 30 steps"
    assert meaning.decisions(cifar10_bn.get_config())["mean_accuracy"] == "the mean output over all 16 steps"
    stages = {stage.name: meaning.decisions(stage) for stage in fashion_mnist_spiking.get_config().stages}
    assert stages["rate"]["mean_accuracy"] == "the mean output over all 10 steps"
    assert stages["lowpass"]["mean_accuracy"] == "the mean output over all 10 steps"
    assert stages["lowpass"]["test_accuracy"] == stages["lowpass"]["last_accuracy"]
    assert "maximum" in meaning.decisions(mnist_recurrent.get_config())["test_accuracy"]


def test_a_reference_is_a_number_with_a_source():
    old = config.from_json('{"reference": {"test_accuracy": 0.9}}')  # a config.json of earlier versions
    assert old.reference == {"test_accuracy": Reference(0.9)}
    assert config.from_json(config.to_json(FULL)) == FULL
    rows = meaning.references(FULL, {"test_accuracy": 0.8})
    assert rows == [
        {"metric": "test_accuracy", "result": "80.00%", "reference": "90.00%", "source of the reference": "a paper"}
    ]
    assert meaning.references(old, {})[0]["source of the reference"] == "the config does not say"
    with pytest.raises(ValueError, match=r"reference.*value must be"):
        Experiment(reference={"test_accuracy": "much"})


def test_a_reference_on_the_command_line_is_a_number():
    changed = override(Experiment(), ["--reference", "test_accuracy", "0.5"], "x", "")
    assert changed.reference == {"test_accuracy": Reference(0.5)}
    changed = override(FULL, ["--reference", "last_accuracy", "0.5", "x", "1"], "x", "")
    assert changed.reference == {"last_accuracy": Reference(0.5), "x": Reference(1)}
    changed = override(FULL, ["--reference.test-accuracy", "0.5"], "x", "")
    assert changed.reference == {"test_accuracy": Reference(0.5)}  # whose source is not the config's
    assert override(FULL, [], "x", "").reference == FULL.reference


def shortened(arguments, experiment=FULL):
    return overrides.remember(experiment, override(experiment, arguments, "x", ""))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("arguments", "less"),
    [
        ([], []),
        (["--train.epochs", "10", "--seed", "3"], []),
        (["--train.epochs", "20"], []),
        (["--train.epochs", "1"], ["train.epochs 1, not 10"]),
        (["--data.train-split", "train[:100]"], ["data.train_split train[:100], not train"]),
        (["--data.test-split", "test[:9]"], ["data.test_split test[:9], not test"]),
        (["--data.name", "mnist"], ["data.name mnist, not digits"]),
    ],
)
def test_a_run_of_less_than_its_config_says_so(arguments, less):
    changed = shortened(arguments)
    assert meaning.less(changed) == less
    again = shortened([], config.from_json(config.to_json(changed)))
    assert meaning.less(again) == less  # a run of the run's config.json
    shorter = meaning.less(shortened(["--train.epochs", "2"], again))
    assert set(shorter) == {*(one for one in less if "epochs" not in one), "train.epochs 2, not 10"}


def test_what_is_whole_again_is_not_less():
    assert meaning.less(shortened(["--train.epochs", "10"], shortened(["--train.epochs", "1"]))) == []


def test_a_study_remembers_each_stage():
    study = config.Study(name="study", stages=(FULL, dataclasses.replace(FULL, name="other")))
    changed = overrides.remember(study, override(study, ["--stages.1.train.epochs", "2"], "x", ""))
    assert [meaning.less(stage) for stage in changed.stages] == [[], ["train.epochs 2, not 10"]]


def test_weights_of_a_shorter_run_are_less(tmp_path):
    (tmp_path / "config.json").write_text(config.to_json(shortened(["--train.epochs", "1"])))
    taken = dataclasses.replace(FULL, train=Train(weights=str(tmp_path)))
    assert meaning.less(taken) == ["weights trained with train.epochs 1, not 10"]
    assert meaning.less(dataclasses.replace(FULL, train=Train(weights=str(tmp_path / "gone")))) == []


def test_the_field_is_not_for_the_command_line():
    with pytest.raises(ValueError, match="there is no field --reduced-from"):
        override(Experiment(data=Data()), ["--reduced-from", "train.epochs", "3"], "x", "")
