"""The parts of an experiment that come in several kinds: each is one class with its fields and its `make`."""
