"""Experiments: what a config says, made into jsnn objects, trained and written down."""
