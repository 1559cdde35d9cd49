"""A small part of `tests/torture.py`, which is run by hand with larger counts."""

import random

import pytest
import torture


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see experiments.system
@pytest.mark.parametrize(("name", "count"), [("kills", 4), ("flips", 20), ("corruptions", 18), ("pairs", 2)])
def test_a_run_outlives(tmp_path, name, count):
    outcomes = list(torture.TORTURES[name](count, tmp_path, random.Random(1)))
    assert outcomes
    assert not [outcome for outcome in outcomes if outcome.startswith("FAULT")]
