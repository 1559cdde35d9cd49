"""The sections of a run's page that show what the network learnt and what it does with test images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import jsnn
from experiments import conversion, figures, meaning, spread
from experiments.loop import Run
from experiments.observe import LayerActivity, Observation, Sample, Subject, record_samples
from experiments.page import Page
from experiments.summary import format_metric, without_losses

_SAMPLES = 2  # of the first test images, beside the worst mistake
_MISTAKES = 15
_SATURATED = 0.5  # the share of saturated neurons from which on a layer is warned of


def warnings(layers: list[LayerActivity]) -> list[str]:
    """What is wrong with the layers, and what to try."""
    found = []
    for layer in layers:
        if layer.is_dead:
            found.append(
                f"Layer {layer.name} is dead: none of its {layer.rates.size:,} neurons spiked for any test image. "
                f"Nothing passes it, and it learns little or nothing. Try a lower threshold, a larger input (data.std, "
                f"an encoder's gain or rate), larger initial weights, or more steps."
            )
        elif (share := float(layer.saturated.mean())) >= _SATURATED:
            found.append(
                f"Layer {layer.name} always fires: {share:.0%} of its {layer.rates.size:,} neurons had at least as "
                f"many spikes as steps for every test image. Such neurons tell nothing of the image. Try a higher "
                f"threshold, a smaller input, or a penalty on firing rates."
            )
    return found


def add_seeds(page: Page, run: Run, summary: Mapping[str, Any]) -> None:
    """The mean over several networks and how sure it is, and each of them; nothing of one alone."""
    if "seeds" not in summary:
        return
    page.section("Seeds")
    found = spread.spreads(summary["seeds"])
    means = [
        {"learning rate": f"{one.learning_rate:g}", "seeds": len(one.seeds)}
        | {name: one.text(name) for name in without_losses(one.means)}
        for one in found
    ]
    page.table(
        means,
        f"The means over the seeds, ± half the width of their {spread.CONFIDENCE:.0%} confidence intervals (Student's "
        f"t). The results above are of the learning rate with the highest accuracy.",
    )
    page.table(
        [{name: format_metric(name, value) for name, value in without_losses(row).items()} for row in summary["seeds"]],
        f"Each network. What follows is about the one with seed {run.experiment.seed} and learning rate "
        f"{run.experiment.optimizer.learning_rate:g}; the curves of the training are means over all networks.",
    )


def add_training(page: Page, run: Run) -> None:
    """Loss, accuracy and firing rates after every epoch; nothing for weights that another run has trained."""
    history = run.records()
    if not history:
        return
    page.section("Training")
    page.figure(
        figures.training(history, "loss", "Loss"),
        "The loss after each epoch. What training adds to the cross-entropy, such as penalties, is in its curve alone.",
        f"Loss over {len(history)} epochs",
    )
    page.figure(
        figures.training(history, "accuracy", "Accuracy (%)"),
        "The accuracy after each epoch; on the training set it is the mean over the epoch.",
        f"Accuracy over {len(history)} epochs",
    )
    if any(name.startswith("train_rate/") for name in history[0]):
        page.figure(
            figures.training_rates(history),
            "The mean output of the hidden neurons: spikes per step, or Hz where a spike is 1/dt high.",
            f"Firing rates of the hidden layers over {len(history)} epochs",
        )


def add_conversion(page: Page, run: Run, subject: Subject, summary: Mapping[str, Any]) -> None:
    """What was replaced, where it loses, and the sweep."""
    settings, network = run.experiment.conversion, subject.network
    assert settings is not None
    assert isinstance(network, jsnn.conversion.Converted)
    page.section("Conversion")
    page.code(str(network.report), "what was replaced by what")
    some = slice(0, settings.batch_size)  # those that the console's diagnosis is of
    images, labels = conversion.prepare(run, run.sets.test.images[some]), run.sets.test.labels[some]
    found = jsnn.conversion.diagnose(network, images, labels, num_steps=settings.num_steps, dt=settings.dt)
    rows = [
        {
            "activation": row.name,
            "relative error": f"{row.relative_error:.4f}",
            "cosine similarity": f"{row.cosine_similarity:.4f}",
            "silent pairs": f"{row.silent:.1%}",
            "saturated pairs": f"{row.saturated:.1%}",
            "rate (Hz)": f"{row.rate:.2f}",
            "spikes": f"{row.spikes:,.0f}",
            "output error alone": f"{row.output_error:.4f}",
        }
        for row in found.activations
    ]
    page.table(
        rows,
        f"Each activation beside the rate that it stands for, on {len(images)} test images: its own error, and the "
        f"error of the output if it alone spikes. Of all pairs of a neuron and an image, silent are those without a "
        f"spike, saturated those with at least as many spikes as steps. {found.worst} loses most.",
    )
    page.figure(
        figures.diagnosis(found), "Where the conversion loses, as in the table.", "Bars: the errors of each activation"
    )
    if "sweep" in summary:
        _add_sweep(page, summary)


def _add_sweep(page: Page, summary: Mapping[str, Any]) -> None:
    rows = [
        {name: format_metric(name, value) for name, value in row.items() if value is not None}
        for row in summary["sweep"]
    ]
    reference = {"rate network": summary["final"]["test_accuracy"]}
    spikes, steps = figures.COSTS
    for cost in (spikes, steps) if len({row["num_steps"] for row in summary["sweep"]}) > 1 else (spikes,):
        page.figure(
            figures.sweep(summary["sweep"], cost, reference),
            f"The sweep: accuracy on the last step against {cost}. Rings mark what no other setting beats.",
            f"Accuracy of {len(rows)} settings against {cost}",
        )
    page.table(rows, "The sweep, every combination of its settings, on all test images.")


def add_layers(page: Page, subject: Subject, seen: Observation) -> None:
    """How the layers fire, what is wrong with them, and what they decide after each step."""
    page.section("Layers")
    if not seen.layers:
        page.text("This is a rate network: it has no spikes, and no time for traces. A conversion would give it both.")
        return
    unit, short, scale = ("spikes per step", "per step", 1.0) if subject.dt is None else ("Hz", "Hz", 1 / subject.dt)
    rows = [
        {
            "layer": layer.name,
            "neurons": f"{layer.rates.size:,}",
            f"rate ({short})": format_metric("rate", float(layer.rates.mean() * scale)),
            f"highest ({short})": format_metric("rate", float(layer.rates.max() * scale)),
            "dead neurons": f"{layer.silent.mean():.1%}",
            "always firing": f"{layer.saturated.mean():.1%}",
            "spikes": format_metric("spikes", layer.spikes),
        }
        for layer in seen.layers
    ]
    page.table(
        rows,
        f"The layers that spike, for {len(seen.labels):,} test images, each shown for {len(seen.accuracy_by_step)} "
        f"steps: the mean rate of a neuron and that of the busiest one, the share of neurons that spiked for no image "
        f"at all (dead) and of those that had at least as many spikes as steps for every image (always firing), and "
        f"the spikes of the layer for one image.",
    )
    for warning in warnings(seen.layers):
        page.warn(warning)
    page.figure(
        figures.rates({layer.name: layer.rates * scale for layer in seen.layers}, unit),
        "How the rates of the neurons, each a mean over the images, are distributed. Dashed: the mean.",
        "Histograms of firing rates by layer",
    )
    page.figure(
        figures.accuracy(
            {
                "output of the step": seen.accuracy_by_step,
                "mean output so far": seen.mean_accuracy_by_step,
            },
            {},
        ),
        "How accurate the network is on these images if it is stopped after so many steps, deciding on the output of "
        "that step, or on the mean output of all steps so far.",
        "Accuracy against the number of steps",
    )


def add_samples(page: Page, run: Run, subject: Subject, seen: Observation) -> None:
    """The first test images, and the worst mistake."""
    if not seen.layers:
        return
    names = figures.class_names(run.sets.test)
    indices = list(dict.fromkeys([*range(min(_SAMPLES, len(seen.labels))), *_worst(seen)[:1].tolist()]))
    for index, sample in zip(indices, record_samples(run, subject, indices)):
        _add_sample(page, run, index, sample, subject.dt)
        if sample.prediction != seen.predictions[index]:
            page.text(
                f"Among all test images it was taken for {names[seen.predictions[index]]}: with other random spikes or "
                f"membranes, the answer is another."
            )


def _add_sample(page: Page, run: Run, index: int, seen: Sample, dt: float | None) -> None:
    names, image, label = (
        figures.class_names(run.sets.test),
        run.sets.test.images[index],
        int(run.sets.test.labels[index]),
    )
    chosen, what = names[seen.prediction], f"test image {index}"
    verdict = "recognised" if label == seen.prediction else f"taken for {chosen}"
    page.section(f"Test image {index}: {names[label]}, {verdict}")
    page.figure(figures.picture(image), f"Class {names[label]}.", f"{what}, class {names[label]}")
    page.figure(
        figures.probabilities(seen.outputs, label, names, dt),
        "The probability of each class, by softmax of the output at each step.",
        f"Class probabilities over time, {what}",
    )
    page.figure(
        figures.outputs(seen.outputs, label, names, dt), "The output of each class.", f"Outputs over time, {what}"
    )
    trains = {name: layer.spikes for name, layer in seen.layers.items()}
    if seen.inputs is not None:
        trains = {"input": seen.inputs} | trains
    page.figure(
        figures.raster(trains, dt),
        "The spikes of every layer. Of a large layer a row is several neurons, the darker the more of them fire.",
        f"Raster of every layer, {what}",
    )
    for name, layer in seen.layers.items():
        if layer.states:
            page.figure(
                figures.traces(layer.states, layer.spikes, layer.threshold, dt),
                f"{name}: the states of a few neurons, the busiest on top; where there are enough, they are neurons "
                f"that fired at some steps and not at all of them. A state is that of the end of a step, after the "
                f"reset: where a neuron spiked, its membrane has been reset already.",
                f"Traces of {name}, {what}",
            )


def add_mistakes(page: Page, run: Run, seen: Observation) -> None:
    """Which class is taken for which, and the worst mistakes."""
    dataset, names = run.sets.test, figures.class_names(run.sets.test)
    page.section("Mistakes")
    count = len(seen.labels)
    part = f"the first {count:,} of the" if count < len(dataset) else "the"
    name = meaning.headline(run.experiment) if run.experiment.conversion else "test_accuracy"
    how = f" Decided on {meaning.decisions(run.experiment)[name]}."
    worst = _worst(seen)
    page.text(f"{len(worst):,} of {count:,} test images are taken for another class.")
    page.figure(
        figures.confusion(seen.labels, seen.predictions, names),
        f"Which class is taken for which, on {part} {len(dataset):,} test images: {seen.accuracy:.2%} are right.{how}",
        "Confusion matrix",
    )
    if not worst.size:
        return
    shown = worst[:_MISTAKES]
    captions = [f"{names[seen.labels[i]]}\n→ {names[seen.predictions[i]]}" for i in shown]
    page.figure(
        figures.pictures(dataset.images[shown], captions),
        "The worst mistakes, those of the highest loss: the class, and below it what it was taken for.",
        f"The {len(shown)} test images with the highest loss",
    )


def _worst(seen: Observation) -> np.ndarray:
    """The indices of the images that were taken for another class, the highest loss first."""
    wrong = np.flatnonzero(seen.predictions != seen.labels)
    return wrong[np.argsort(-seen.losses[wrong], kind="stable")]
