"""The sections of a run's page that show what the network learnt and what it does with test images."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import meaning, spread
from experiments.config import Experiment
from experiments.evaluation import ConversionReport, Evaluation, LayerActivity, Sample
from experiments.report import figures
from experiments.report.page import Page
from experiments.summary import format_metric, without_losses
from jsnn import plot

_SATURATED = 0.5  # the share of saturated neurons from which on a layer is warned of


def warnings(layers: list[LayerActivity]) -> list[str]:
    """Return what is wrong with the layers, and what to try."""
    found = []
    for layer in layers:
        if layer.silent.all():
            found.append(
                f"Layer {layer.name} is dead: none of its {layer.rates.size:,} neurons spiked for any test example. "
                f"Nothing passes it, and it learns little or nothing. Try a lower threshold, a larger input (data.std, "
                f"an encoder's gain or rate), larger initial weights, or more steps."
            )
        elif (share := float(layer.saturated.mean())) >= _SATURATED:
            found.append(
                f"Layer {layer.name} always fires: {share:.0%} of its {layer.rates.size:,} neurons had at least as "
                f"many spikes as steps for every test example. Such neurons tell nothing of the example. Try a higher "
                f"threshold, a smaller input, or a penalty on firing rates."
            )
    return found


def add_seeds(page: Page, experiment: Experiment, summary: Mapping[str, Any]) -> None:
    """Add the mean over several networks and how sure it is, and each of them; nothing of one alone."""
    if "seeds" not in summary:
        return
    page.section("Seeds")
    found, loss = spread.spreads(summary["seeds"]), experiment.objective.loss
    best = spread.best(found, loss.score, maximize=not loss.is_error)
    means = [
        {"learning rate": f"{one.learning_rate:g}", "seeds": len(one.seeds)}
        | {name: one.text(name) for name in without_losses(one.means)}
        for one in found
    ]
    page.table(
        means,
        f"The means over the seeds, ± half the width of their {spread.CONFIDENCE:.0%} confidence intervals (Student's "
        f"t). The results above are of the learning rate with the best {loss.score}.",
    )
    page.table(
        [{name: format_metric(name, value) for name, value in without_losses(row).items()} for row in summary["seeds"]],
        f"Each network. What follows is about the one with seed {experiment.seed} and learning rate "
        f"{best.learning_rate:g}; the curves of the training are means over all networks.",
    )


def add_training(page: Page, history: Sequence[Mapping[str, Any]], score: str) -> None:
    """Add loss, score and firing rates after every epoch; nothing for weights that another run has trained."""
    if not history:
        return
    page.section("Training")
    over = f"over {len(history)} epochs"
    captions = {
        "loss": "The loss after each epoch. What training adds to it, such as penalties, is in its curve alone.",
        score: f"The {score} after each epoch; on the training set it is the mean over the epoch.",
    }
    for metric, caption in captions.items():
        label = "Accuracy (%)" if metric == "accuracy" else metric.capitalize()
        figure = figures.training(history, metric, label)
        page.figure(f"training_{metric}", figure, caption, f"{metric.capitalize()} {over}")
    if any(name.startswith("train_rate/") for name in history[0]):
        page.figure(
            "training_rates",
            figures.training_rates(history),
            "The mean output of the hidden neurons: spikes per step, or Hz where a spike is 1/dt high.",
            f"Firing rates of the hidden layers {over}",
        )


def add_conversion(page: Page, found: ConversionReport) -> None:
    """Add what was replaced, and where it loses."""
    page.section("Conversion")
    page.code(found.replaced, "what was replaced by what")
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
    worst = max(found.activations, key=lambda row: row.output_error).name
    page.table(
        rows,
        f"Each activation beside the rate that it stands for, on {found.examples} test images: its own error, and the "
        f"error of the output if it alone spikes. Of all pairs of a neuron and an image, silent are those without a "
        f"spike, saturated those with at least as many spikes as steps. {worst} loses most.",
    )
    page.figure(
        "diagnosis",
        figures.diagnosis(found.activations),
        "Where the conversion loses, as in the table.",
        "Bars: the errors of each activation",
    )


def add_sweep(page: Page, sweep: Sequence[Mapping[str, Any]], score: str, final: Mapping[str, float]) -> None:
    """Add other settings of a conversion and what they reach; nothing where none was tried."""
    if not sweep:
        return
    spikes, steps = figures.COSTS
    costs = (spikes, steps) if len({row["num_steps"] for row in sweep}) > 1 else (spikes,)
    for cost in costs if score == "accuracy" else ():
        page.figure(
            f"sweep_{cost.replace(' ', '_')}",
            figures.sweep(sweep, cost, {"rate network": final["test_accuracy"]}),
            f"The sweep: accuracy on the last step against {cost}. Rings mark what no other setting beats.",
            f"Accuracy of {len(sweep)} settings against {cost}",
        )
    rows = [{name: format_metric(name, value) for name, value in row.items() if value is not None} for row in sweep]
    page.table(rows, "The sweep, every combination of its settings, on all test images.")


def add_layers(page: Page, seen: Evaluation) -> None:
    """Add how the layers fire, what is wrong with them, and what the network decides after each step."""
    page.section("Layers")
    if not seen.layers:
        page.text("This is a rate network: it has no spikes, and no time for traces. A conversion would give it both.")
        return
    unit, short, scale = ("spikes per step", "per step", 1.0) if seen.dt is None else ("Hz", "Hz", 1 / seen.dt)
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
        f"The layers that spike, for {len(seen.targets):,} test examples, each shown for {len(seen.score_by_step)} "
        f"steps: the mean rate of a neuron and that of the busiest one, the share of neurons that spiked for no "
        f"example at all (dead) and of those that had at least as many spikes as steps for every example (always "
        f"firing), and the spikes of the layer for one example.",
    )
    for warning in warnings(seen.layers):
        page.warn(warning)
    page.figure(
        "rates",
        figures.rates({layer.name: layer.rates * scale for layer in seen.layers}, unit),
        "How the rates of the neurons, each a mean over the examples, are distributed. Dashed: the mean.",
        "Histograms of firing rates by layer",
    )
    curves = {"output of the step": seen.score_by_step, "mean output so far": seen.mean_score_by_step}
    page.figure(
        seen.score,
        figures.score_by_step(curves, seen.score),
        f"The {seen.score} on the test examples if the network is stopped after so many steps, deciding on the output "
        f"of that step, or on the mean output of all steps so far.",
        f"{seen.score.capitalize()} against the number of steps",
    )


def add_delays(page: Page, seen: Evaluation) -> None:
    """Add how the learned delays are distributed, where there are some."""
    if seen.delays:
        page.section("Delays")
        page.figure(
            "delays",
            figures.delays(seen.delays, seen.dt),
            "The delays that the synapses of each layer have learned.",
            "Histograms of delays by layer",
        )


def add_receptive_fields(page: Page, seen: Evaluation) -> None:
    """Add what neurons have learned without labels, where there are such."""
    for name, fields in seen.receptive_fields.items():
        page.section("Receptive fields")
        page.figure(
            f"receptive_fields_{name}",
            figures.draw(plot.weights, fields, limit=fields.shape[-1], height=4.4),
            f"The weights of {fields.shape[-1]} neurons of layer {name}, which have learned by themselves, each as an "
            f"image.",
            "Images of weights",
        )


def add_samples(page: Page, seen: Evaluation) -> None:
    """Add the first test examples, and the worst mistake."""
    for sample in seen.samples:
        _add_sample(page, seen, sample)


def _add_sample(page: Page, seen: Evaluation, sample: Sample) -> None:
    what, target = f"test example {sample.index}", seen.targets[sample.index]
    is_class = bool(seen.class_names) and target.ndim == 0
    if is_class:
        name, chosen = seen.class_names[int(target)], seen.class_names[int(sample.prediction)]
        verdict = "recognised" if int(target) == int(sample.prediction) else f"taken for {chosen}"
        page.section(f"Test example {sample.index}: {name}, {verdict}")
    else:
        page.section(f"Test example {sample.index}")
    if figures.is_picture(sample.example):
        caption = f"Class {name}." if is_class else "The example."
        page.figure(f"example_{sample.index}", figures.picture(sample.example), caption, f"The picture of {what}")
    if is_class:
        of_classes: dict[str, Any] = {"target": int(target), "class_names": seen.class_names, "dt": seen.dt}
        page.figure(
            f"probabilities_{sample.index}",
            figures.draw(plot.class_probabilities, sample.outputs, **of_classes),
            "The probability of each class, by softmax of the output at each step.",
            f"Class probabilities over time, {what}",
        )
        page.figure(
            f"outputs_{sample.index}",
            figures.draw(plot.output_traces, sample.outputs, **of_classes),
            "The output of each class.",
            f"Outputs over time, {what}",
        )
    else:
        page.figure(
            f"answer_{sample.index}",
            figures.answer(target if target.ndim == 0 else target[: len(sample.prediction)], sample.prediction),
            "The network's answer beside the target.",
            f"Answer and target, {what}",
        )
    trains = {name: layer.spikes for name, layer in sample.layers.items()}
    if sample.inputs is not None:
        trains = {"input": sample.inputs} | trains
    page.figure(
        f"raster_{sample.index}",
        figures.draw(plot.raster, trains, dt=seen.dt, height=max(3.2, 1.0 + 1.2 * len(trains))),
        "The spikes of every layer. Of a large layer a row is several neurons, the darker the more of them fire.",
        f"Raster of every layer, {what}",
    )
    for name, layer in sample.layers.items():
        if layer.states:
            page.figure(
                f"traces_{sample.index}_{name}",
                figures.traces(layer, seen.dt),
                f"{name}: the states of a few neurons, the busiest on top; where there are enough, they are neurons "
                f"that fired at some steps and not at all of them. A state is that of the end of a step, after the "
                f"reset: where a neuron spiked, its membrane has been reset already.",
                f"Traces of {name}, {what}",
            )
    if is_class and sample.prediction != seen.predictions[sample.index]:
        page.text(
            f"Among all test examples it was taken for {seen.class_names[seen.predictions[sample.index]]}: with other "
            f"random spikes or membranes, the answer is another."
        )


def add_mistakes(page: Page, experiment: Experiment, seen: Evaluation) -> None:
    """Add which class is taken for which, and the worst mistakes; of values, the largest errors."""
    page.section("Mistakes")
    count = len(seen.targets)
    if not seen.class_names:
        page.text("The examples with the largest errors: " + ", ".join(map(str, seen.worst)) + ".")
        page.figure(
            "errors",
            figures.errors(seen.losses),
            "How the errors of the examples are distributed.",
            "Histogram of errors",
        )
        return
    right, answered = seen.is_right, (seen.targets[seen.answered], seen.predictions[seen.answered])
    page.text(f"{(~right).sum():,} of {right.size:,} answers are of another class.")
    page.figure(
        "confusion",
        figures.draw(plot.confusion_matrix, *answered, class_names=seen.class_names, height=4.7),
        f"Which class is taken for which, on the {count:,} test examples: {right.mean():.2%} are right. Decided on "
        f"{meaning.decisions(experiment)[meaning.headline(experiment)]}.",
        "Confusion matrix",
    )
    if not seen.worst or seen.targets.ndim > 1 or not figures.is_picture(seen.worst_examples[0]):
        return
    captions = [f"{seen.class_names[seen.targets[i]]}\n→ {seen.class_names[seen.predictions[i]]}" for i in seen.worst]
    page.figure(
        "worst",
        figures.pictures(seen.worst_examples, captions),
        "The worst mistakes, those of the highest loss: the class, and below it what it was taken for.",
        f"The {len(seen.worst)} test images with the highest loss",
    )
