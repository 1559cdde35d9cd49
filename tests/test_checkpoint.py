import re
import resource
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jsnn import models, train
from jsnn.checkpoint import CheckpointError, Checkpoints


def state_of(hidden=4, optimizer=None, seed=0):
    return train.create(models.feedforward([3, hidden, 2], rngs=nnx.Rngs(seed)), optimizer or optax.adam(1e-3))[1]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def in_a_process(program):
    """Runs a program; returns what it printed, its errors too."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return result.stdout + result.stderr[-2000:]


def test_saves_and_restores_bit_for_bit(tmp_path):
    state = state_of()._replace(step=jnp.asarray(7, jnp.int32))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state, {"seconds": 0.1 + 0.2}, score=0.5)
    restored, info = Checkpoints(tmp_path).restore(7, state_of(seed=1))
    assert_equal(restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert info == {"seconds": 0.1 + 0.2}


def test_keeps_the_best_and_the_last(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, score in ((1, 0.1), (2, 0.9), (3, 0.3), (4, None), (5, 0.4)):
        checkpoints.save(step, {"x": jnp.asarray(step)}, {}, score)
    assert (checkpoints.last, checkpoints.best) == (5, 2)
    again = Checkpoints(tmp_path, read_only=True)
    assert int(again.restore(again.best, {"x": jnp.asarray(0)})[0]["x"]) == 2
    kept = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert kept == [2, 5]


def test_nothing_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", read_only=True)
    assert checkpoints.last is None
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in .*none"):
        checkpoints.restore(checkpoints.last, {"x": jnp.zeros(())})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "like",
    [state_of(hidden=5), state_of(optimizer=optax.sgd(1e-3)), {"x": jnp.zeros(3)}],
    ids=["size", "optimizer", "other"],
)
def test_a_foreign_checkpoint_is_refused_and_left_alone(tmp_path, like):
    Checkpoints(tmp_path).save(3, state_of(), {})
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(CheckpointError, match=r"step 3 .* damaged, or was written by another network or optimiser"):
        Checkpoints(tmp_path, read_only=True).restore(3, like)
    assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())


def test_what_does_not_fit_is_named_and_nothing_else(tmp_path):
    Checkpoints(tmp_path).save(3, {"a": jnp.zeros(3), "b": jnp.zeros(2)}, {})
    for like, text in (
        ({"a": jnp.zeros(4), "b": jnp.zeros(2)}, "it holds ['a'] (3,), wanted is ['a'] (4,)"),
        ({"a": jnp.zeros(3)}, "it holds ['b'] (2,), wanted is nothing more"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(text)):
            Checkpoints(tmp_path, read_only=True).restore(3, like)


def test_a_corrupt_checkpoint_is_refused(tmp_path):
    """In a process of its own: orbax drops its reading tasks, whose complaints would reach a later test."""
    Checkpoints(tmp_path).save(3, {"x": jnp.ones(4), "y": jnp.zeros((2, 3))}, {})
    for path in (tmp_path / "3" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"broken")
    printed = in_a_process(f"""
        import jax.numpy as jnp
        from jsnn.checkpoint import CheckpointError, Checkpoints
        try:
            Checkpoints({str(tmp_path)!r}, read_only=True).restore(3, {{"x": jnp.ones(4), "y": jnp.zeros((2, 3))}})
        except CheckpointError as error:
            print("refused:", error)
    """)
    assert "refused: the checkpoint of step 3" in printed
    assert "damaged" in printed


def test_read_only_saves_nothing(tmp_path):
    Checkpoints(tmp_path).save(1, {"x": jnp.zeros(())}, {})
    with pytest.raises(CheckpointError, match="opened for reading only"):
        Checkpoints(tmp_path, read_only=True).save(2, {"x": jnp.zeros(())}, {})


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands for the full disk: writing past it fails with an OSError as well."""
    printed = in_a_process(f"""
        import resource, signal
        import jax.numpy as jnp, numpy as np
        from jsnn.checkpoint import CheckpointError, Checkpoints
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        checkpoints = Checkpoints({str(tmp_path)!r})
        checkpoints.save(1, {{"x": jnp.ones(4)}}, {{}}, score=0.1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        noise = np.random.default_rng(0).normal(size=100_000)
        try:
            checkpoints.save(2, {{"x": jnp.asarray(noise)}}, {{}}, score=0.2)
        except CheckpointError as error:
            print("refused:", error)
    """)
    assert "refused: the checkpoint of step 2 could not be written" in printed
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.last == 1
    np.testing.assert_array_equal(checkpoints.restore(1, {"x": jnp.zeros(4)})[0]["x"], 1)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file-size limits on this platform")
def test_a_save_cut_short_is_not_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jnp.ones(4)}, {})
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp-0")  # what a killed save leaves behind
    assert Checkpoints(tmp_path).last == 1
