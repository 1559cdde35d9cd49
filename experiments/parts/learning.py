"""Learning rules: where the gradient of the training comes from."""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field

import jsnn
from experiments.parts.base import Part, Seed


class Learning(Part):
    """Base of the learning rules."""

    @abstractmethod
    def make(self) -> Any:
        """Return a rule of jsnn.online, or None for backpropagation through time."""

    def prepare(self, network: Any, shape: tuple[int, ...], rngs: Any) -> Any:
        """Return the network with what the rule trains beside it; `shape` is that of its input at one step."""
        return network


class Bptt(Learning):
    """Backpropagation through time, which keeps every step."""

    def make(self) -> Any:
        return None


class Online(Learning):
    """Base of the rules that learn step by step, from the loss of each step alone."""

    burn_in: Annotated[float, Field(ge=0, lt=1)] | None = None
    """How much of the time, at the start, the loss leaves out, as too little has been seen for an answer; None for half
    of it, and for nothing where every step has a target."""
    compare: bool = True
    """Train by backpropagation through time too, in the folder bptt, to stand beside the result."""


class Rtrl(Online):
    """The exact sensitivity of each neuron to its own weights, see jsnn.online.rtrl."""

    readout_memory: bool = True
    """Whether traces pass through the membrane of the readout; without it they need less memory and time."""

    def make(self) -> Any:
        return jsnn.online.rtrl(readout_memory=self.readout_memory)


class Eprop(Online):
    """Eligibility traces times a learning signal, see jsnn.online.eprop."""

    feedback: Literal["symmetric", "random", "trained"] = "symmetric"
    """How the error reaches hidden neurons: by the readout's weights, by a random matrix, or by one that is trained."""
    readout_memory: bool = False
    """Whether traces pass through the membrane of the readout, as in the paper; it takes more memory and time."""
    feedback_seed: Seed = 0
    """Of the random matrices."""

    def make(self) -> Any:
        return jsnn.online.eprop(feedback=self.feedback, readout_memory=self.readout_memory, seed=self.feedback_seed)

    def prepare(self, network: Any, shape: tuple[int, ...], rngs: Any) -> Any:
        """Return the network with the trained matrices, if the feedback is trained."""
        return jsnn.online.with_feedback(network, shape, rngs=rngs) if self.feedback == "trained" else network


class Ottt(Online):
    """Filtered inputs of each layer, see jsnn.online.ottt."""

    def make(self) -> Any:
        return jsnn.online.ottt()


class Sltt(Online):
    """The gradient of each step by itself, see jsnn.online.sltt."""

    def make(self) -> Any:
        return jsnn.online.sltt()


class Decolle(Online):
    """A random readout and a loss for each hidden layer, see jsnn.online.decolle."""

    readout_seed: Seed = 0
    """Of the random readouts."""

    def make(self) -> Any:
        return jsnn.online.decolle(seed=self.readout_seed)
