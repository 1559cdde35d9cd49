"""Decoders and losses, and the objective of a training: one of each, and penalties."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import NonNegativeFloat, PositiveFloat

import jsnn
from experiments.parts.base import OneOf, Part, Settings

Decode: TypeAlias = Callable[..., Any]
LossFunction: TypeAlias = Callable[..., tuple[Any, dict[str, Any]]]


class Decoder(Part):
    """Base of the decoders."""

    text: ClassVar[str] = "the outputs of {} steps"  # what is decided on, for reports

    @abstractmethod
    def make(self) -> Decode:
        """Return a function from the outputs of all steps, `[T, B, ...]`, to an answer for each example, `[B, ...]`.

        Of recordings of different lengths it also receives `lengths=`, `[B]`: the steps of each that are not padding.
        """


class MaxOverTime(Decoder):
    """The maximum over all steps."""

    text: ClassVar[str] = "the maximum of the output over all {} steps"

    def make(self) -> Decode:
        return jsnn.decode.max_over_time


class Last(Decoder):
    """The output of the last step."""

    text: ClassVar[str] = "the output of the last of {} steps"

    def make(self) -> Decode:
        return jsnn.decode.last


class Mean(Decoder):
    """The mean over all steps."""

    text: ClassVar[str] = "the mean output over all {} steps"

    def make(self) -> Decode:
        return jsnn.decode.mean


class Sum(Decoder):
    """The sum over all steps."""

    text: ClassVar[str] = "the sum of the outputs of all {} steps"

    def make(self) -> Decode:
        return jsnn.decode.sum


class Loss(Part):
    """Base of the losses."""

    score: ClassVar[str] = "accuracy"  # the metric that tells which of two epochs is better
    is_error: ClassVar[bool] = False  # the lower the score, the better
    in_time: ClassVar[bool] = False  # there is a target for every step
    of_classes: ClassVar[bool | None] = None  # targets are classes (True) or values (False); None takes both

    @abstractmethod
    def make(self) -> LossFunction:
        """Return a function `(outputs, decoded, targets) -> (loss, metrics)`.

        It takes the outputs of all steps, `[T, B, ...]`, what the decoder made of them, `[B, ...]`, and the targets,
        `[B, ...]`, or `[B, T, ...]` where `in_time` is true. The loss is a number, each of the metrics one for each
        example, `[B]`; the one that `score` names is among them. Of recordings of different lengths it also receives
        `lengths=`, `[B]`: the steps of each that are not padding.
        """


class CrossEntropy(Loss):
    """The cross-entropy of the decoded outputs, as logits, and the class."""

    of_classes: ClassVar[bool | None] = True

    def make(self) -> LossFunction:
        return _of_classes(lambda outputs, decoded, labels, **padded: jsnn.losses.cross_entropy(decoded, labels))


class CeRateLoss(Loss):
    """The cross-entropy of the outputs at each step, see jsnn.losses.ce_rate_loss."""

    of_classes: ClassVar[bool | None] = True

    def make(self) -> LossFunction:
        return _of_outputs(jsnn.losses.ce_rate_loss)


class CeCountLoss(Loss):
    """The cross-entropy of the spike counts, see jsnn.losses.ce_count_loss."""

    of_classes: ClassVar[bool | None] = True

    def make(self) -> LossFunction:
        return _of_outputs(jsnn.losses.ce_count_loss)


class MseCountLoss(Loss):
    """The squared error of the spike counts, see jsnn.losses.mse_count_loss."""

    of_classes: ClassVar[bool | None] = True

    def make(self) -> LossFunction:
        return _of_outputs(jsnn.losses.mse_count_loss)


class CrossEntropyInTime(Loss):
    """The mean over all steps of the cross-entropy of the step's outputs, as logits, and the step's own class."""

    in_time: ClassVar[bool] = True
    of_classes: ClassVar[bool | None] = True

    def make(self) -> LossFunction:
        def evaluate(outputs: Any, decoded: Any, classes: Any, **padded: Any) -> tuple[Any, dict[str, Any]]:
            labels = _in_time(classes, outputs)
            right = jsnn.metrics.is_correct(outputs, labels).astype("float32")
            return jsnn.losses.cross_entropy(outputs, labels, **padded), {
                "accuracy": jsnn.padding.mean_over_time(right, padded.get("lengths"))
            }

        return evaluate


class Mse(Loss):
    """The mean squared error of the decoded outputs and the values that are wanted."""

    score: ClassVar[str] = "mse"
    is_error: ClassVar[bool] = True
    of_classes: ClassVar[bool | None] = False

    def make(self) -> LossFunction:
        return lambda outputs, decoded, targets, **padded: _squared_error(decoded, targets)


class MseInTime(Mse):
    """The mean squared error of the outputs of every step and the values that are wanted at that step."""

    in_time: ClassVar[bool] = True

    def make(self) -> LossFunction:
        def evaluate(outputs: Any, decoded: Any, targets: Any, **padded: Any) -> tuple[Any, dict[str, Any]]:
            lengths, values = padded.get("lengths"), _in_time(targets, outputs)
            outputs = jsnn.padding.fill_padding(outputs, lengths)  # of NaN in the padding, the square has a gradient
            rows = (len(outputs) * outputs.shape[1], -1)
            _, found = _squared_error(outputs.reshape(rows), values.reshape(rows))
            errors = jsnn.padding.mean_over_time(found["mse"].reshape(outputs.shape[:2]), lengths)
            return errors.mean(), {"mse": errors}

        return evaluate


def _of_classes(loss: Callable[..., Any]) -> LossFunction:
    """Return the loss of a classification with its metric, the accuracy."""

    def evaluate(outputs: Any, decoded: Any, labels: Any, **padded: Any) -> tuple[Any, dict[str, Any]]:
        right = jsnn.metrics.is_correct(decoded, labels).astype("float32")
        return loss(outputs, decoded, labels, **padded), {"accuracy": right}

    return evaluate


def _of_outputs(loss: Callable[..., Any]) -> LossFunction:
    """Return a loss of `jsnn.losses` on the outputs of all steps with the accuracy."""
    return _of_classes(lambda outputs, decoded, labels, **padded: loss(outputs, labels, **padded))


def _squared_error(answers: Any, targets: Any) -> tuple[Any, dict[str, Any]]:
    """Return the mean squared error of answers and targets `[B, ...]`, and that of each example."""
    if answers.size != targets.size:
        raise ValueError(f"the outputs must be as many as the targets, got shapes {answers.shape} and {targets.shape}")
    errors = ((answers.reshape(len(answers), -1) - targets.reshape(len(targets), -1)) ** 2).mean(1)
    return errors.mean(), {"mse": errors}


def _in_time(targets: Any, outputs: Any) -> Any:
    """Return targets `[B, T, ...]` as `[T, B, ...]`."""
    if targets.shape[:2] != (outputs.shape[1], len(outputs)):
        raise ValueError(
            f"the targets must have a value for each of the {len(outputs)} steps, [B, T, ...], got {targets.shape}"
        )
    return targets.swapaxes(0, 1)


class Objective(Settings):
    """The objective of the training: a loss on the readout over time, and penalties."""

    decoder: Annotated[Decoder, OneOf(Decoder)] = MaxOverTime()
    """How the outputs of all steps become one answer: for the accuracy, and for the losses that take it."""
    loss: Annotated[Loss, OneOf(Loss)] = CrossEntropy()
    """On the decoded outputs (cross_entropy), or on those of every step (the others, see jsnn.losses)."""
    kernel_penalty: NonNegativeFloat = 0.0
    """Strength of the squared penalty on all kernels, biases excepted (Keras's L2 kernel regulariser)."""
    rate_penalty: NonNegativeFloat = 0.0
    """Strength of the squared penalty on hidden firing rates."""
    rate_target: NonNegativeFloat = 0.0
    """The rate that costs nothing, in spikes a step; of spiking_dense in Hz."""
    rate_over: Literal["images", "batch"] = "images"
    """Penalise the rate of every neuron for every image (images), or its mean over the batch (batch)."""
    dt_end: PositiveFloat | None = None
    """Let the step of all parts that have one fall from network.dt to this, geometrically over the training, s."""
