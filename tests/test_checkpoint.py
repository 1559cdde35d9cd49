import re
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jsnn import models, train
from jsnn.checkpoint import CheckpointError, Checkpoints


def state_of(hidden=4, optimizer=None, seed=0):
    return train.create(models.feedforward([3, hidden, 2], rngs=nnx.Rngs(seed)), optimizer or optax.adam(1e-3))[1]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def in_a_process(program):
    """Run a program; return what it printed, its errors too."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return result.stdout + result.stderr[-2000:]


@pytest.mark.parametrize("name", ["plain", "a [b] é", "a*b?"])
def test_saves_and_restores_bit_for_bit(tmp_path, name):
    state = state_of()._replace(step=jnp.asarray(7, jnp.int32))
    checkpoints = Checkpoints(tmp_path / name)
    checkpoints.save(7, state, {"seconds": 0.1 + 0.2}, score=0.5)
    restored, info = Checkpoints(tmp_path / name).restore(7, state_of(seed=1))
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


def test_a_kill_while_an_old_one_is_deleted_leaves_no_half_of_it(tmp_path, monkeypatch):
    def killed(folder, **_):
        for path in Path(folder).rglob("metadata"):
            path.unlink()
        raise KeyboardInterrupt

    like = {"x": jnp.ones(3)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, like, {})
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, like, {})
    monkeypatch.undo()
    assert Checkpoints(tmp_path, read_only=True).best == 2
    again = Checkpoints(tmp_path)
    assert (again.steps, again.best, [path.name for path in tmp_path.iterdir()]) == ([2], 2, ["2"])


def test_a_step_before_the_last_is_refused(tmp_path):
    """It would be dropped at once, as the last one and the best are kept."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, {"x": jnp.ones(3)}, {})
    with pytest.raises(ValueError, match=r"step must be at least 5, that of the last checkpoint in .*, got 3"):
        checkpoints.save(3, {"x": jnp.zeros(3)}, {})


def test_what_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file cannot be opened for checkpoints: it is not a folder"):
        Checkpoints(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"orbax takes \\ for /, rename it"):
        Checkpoints(tmp_path / "a\\b")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(CheckpointError, match="cannot be opened for checkpoints: it may not be written to"):
        Checkpoints(tmp_path)


def test_nothing_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", read_only=True)
    assert checkpoints.last is None
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in .*none"):
        checkpoints.restore(checkpoints.last, {"x": jnp.zeros(())})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "make",
    [lambda: state_of(hidden=5), lambda: state_of(optimizer=optax.sgd(1e-3)), lambda: {"x": jnp.zeros(3)}],
    ids=["size", "optimizer", "other"],
)
def test_a_foreign_checkpoint_is_refused_and_left_alone(tmp_path, make):
    Checkpoints(tmp_path).save(3, state_of(), {})
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(CheckpointError, match=r"step 3 .* damaged, or was written by another network or optimiser"):
        Checkpoints(tmp_path, read_only=True).restore(3, make())
    assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())


def test_what_does_not_fit_is_named_and_nothing_else(tmp_path):
    Checkpoints(tmp_path).save(3, {"a": jnp.zeros(3), "b": jnp.zeros(2)}, {})
    for like, text in (
        ({"a": jnp.zeros(4), "b": jnp.zeros(2)}, "it holds ['a'] (3,), wanted is ['a'] (4,)"),
        ({"a": jnp.zeros(3)}, "it holds ['b'] (2,), wanted is nothing more"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(text)):
            Checkpoints(tmp_path, read_only=True).restore(3, like)


@pytest.mark.slow
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


def test_numbers_and_empty_arrays_are_saved_and_what_is_no_array_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {"whole": 3, "real": 0.5, "numpy": np.float32(2), "no": None, "key": jax.random.key(1)}
    state["empty"] = jnp.zeros((0, 3))
    checkpoints.save(1, state, {})
    restored, _ = Checkpoints(tmp_path).restore(1, state)
    assert [float(restored[name]) for name in ("whole", "real", "numpy")] == [3, 0.5, 2]
    assert restored["empty"].shape == (0, 3)
    with pytest.raises(TypeError, match=r"a checkpoint holds arrays and numbers, got 'x' as \['a'\]\[0\]"):
        checkpoints.save(2, {"a": ["x"]}, {})
    with pytest.raises(ValueError, match="step must be >= 0, got -1"):
        checkpoints.save(-1, state, {})


def test_read_only_saves_nothing(tmp_path):
    Checkpoints(tmp_path).save(1, {"x": jnp.zeros(())}, {})
    with pytest.raises(CheckpointError, match="opened for reading only"):
        Checkpoints(tmp_path, read_only=True).save(2, {"x": jnp.zeros(())}, {})


@pytest.mark.slow
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


@pytest.mark.rows(2)
@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), None])
def test_a_score_that_is_not_finite_wins_nothing(tmp_path, score):
    checkpoints = Checkpoints(tmp_path)
    for step, value in ((1, 0.5), (2, score), (3, 0.5), (4, score)):
        checkpoints.save(step, {"x": jnp.asarray(step)}, {}, value)
    again = Checkpoints(tmp_path, read_only=True)
    assert (again.best, again.last, again.steps) == (1, 4, [1, 4])  # of equals the first, as the runner chooses it


def test_any_change_beside_the_arrays_is_noticed(tmp_path):
    for step, score in ((1, 0.9), (2, 0.1)):
        Checkpoints(tmp_path).save(step, {"x": jnp.ones(3)}, {"seconds": 1.25}, score)
    file = tmp_path / "1" / "info" / "metadata"
    for before, after in (("1.25", "1.35"), ("0.9", "0.0"), ('"checksum": "', '"checksum": "0'), ("}", "")):
        whole = file.read_text()
        file.write_text(whole.replace(before, after))
        damaged = Checkpoints(tmp_path)
        with pytest.raises(CheckpointError, match=r"the checkpoint of step 1 .* is damaged .*; whole: step 2") as found:
            print(damaged.best)
        assert found.value.whole == [2]
        with pytest.raises(CheckpointError, match=r"step 1 .* damaged"):  # nobody knows whether it is the best
            damaged.save(3, {"x": jnp.ones(3)}, {}, 0.5)
        file.write_text(whole)
    assert Checkpoints(tmp_path, read_only=True).best == 1


def test_other_values_than_were_saved_are_refused(tmp_path, monkeypatch):
    """The checksum finds what no compression does: here the array that is read is exchanged."""
    Checkpoints(tmp_path).save(1, {"x": jnp.ones(3), "n": jnp.zeros(2)}, {})
    checkpoints, read = Checkpoints(tmp_path, read_only=True), ocp.CheckpointManager.restore

    def other(self, step, args):
        found = read(self, step, args=args)
        return {"state": {"['x']": jnp.asarray([1.0, 1.0, 1.5])}} if "['x']" in (found.get("state") or ()) else found

    monkeypatch.setattr(ocp.CheckpointManager, "restore", other)
    with pytest.raises(CheckpointError, match=r"damaged \(other values than were saved: \['x'\] \(3,\)\)"):
        checkpoints.restore(1, {"x": jnp.ones(3), "n": jnp.zeros(2)})


def test_another_dtype_is_not_converted_silently(tmp_path):
    Checkpoints(tmp_path).save(1, {"x": jnp.ones(3, jnp.bfloat16)}, {})
    with pytest.raises(CheckpointError, match=re.escape("it holds ['x'] (3,) bfloat16, wanted is ['x'] (3,)")):
        Checkpoints(tmp_path, read_only=True).restore(1, {"x": jnp.ones(3)})


def test_an_error_names_three_leaves_and_counts_the_others(tmp_path):
    Checkpoints(tmp_path).save(1, {name: jnp.ones(3) for name in "abcdefg"}, {})
    with pytest.raises(CheckpointError, match=re.escape("['a'] (3,), ['b'] (3,), ['c'] (3,) and 4 more, wanted is")):
        Checkpoints(tmp_path, read_only=True).restore(1, {name: jnp.ones(4) for name in "abcdefg"})


def test_parameters_alone_serve_another_optimiser(tmp_path):
    saved, other = state_of(), state_of(optimizer=optax.sgd(1e-2, momentum=0.9), seed=1)
    Checkpoints(tmp_path).save(1, saved, {})
    checkpoints = Checkpoints(tmp_path, read_only=True)
    part = checkpoints.restore_part(1, other._replace(optimizer=None))
    assert_equal(part.params, saved.params)
    assert part.optimizer is None
    with pytest.raises(CheckpointError, match="another network"):
        checkpoints.restore_part(1, state_of(hidden=5)._replace(optimizer=None))


def test_going_back_drops_what_is_later_or_damaged(tmp_path):
    like = {"x": jnp.ones(3)}
    for step, score in ((1, 0.9), (2, 0.1)):
        Checkpoints(tmp_path).save(step, like, {"step": step}, score)
    (tmp_path / "2" / "info" / "metadata").write_text("")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.last == 2  # it is there, so nobody goes on from another one unasked
    for step in (2, 7):
        with pytest.raises(CheckpointError, match=r"is damaged|there are 1, 2"):
            checkpoints.go_back(step, like)
    checkpoints.go_back(1, like)
    assert (checkpoints.steps, checkpoints.best, checkpoints.info(1)) == ([1], 1, {"step": 1})
    checkpoints.save(2, like, {}, 0.2)
    assert Checkpoints(tmp_path, read_only=True).steps == [1, 2]


def test_checkpoints_of_earlier_versions_are_read_with_a_warning(tmp_path):
    Checkpoints(tmp_path).save(1, {"x": jnp.ones(3)}, {})
    (tmp_path / "1" / "info" / "metadata").write_text('{"seconds": 2.5}')
    (tmp_path / "1" / "metrics").mkdir()
    (tmp_path / "1" / "metrics" / "metrics").write_text('{"score": 0.5}')
    with pytest.warns(UserWarning, match="of an earlier version, without checksums"):
        state, info = Checkpoints(tmp_path, read_only=True).restore(1, {"x": jnp.zeros(3)})
    np.testing.assert_array_equal(state["x"], 1)
    assert info == {"seconds": 2.5}
