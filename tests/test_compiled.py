import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILE = """
import jax
from experiments import system
system.keep_compiled()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: x + 1)(1.0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JSNN_CACHE_DIR": "ours"}, "ours/compiled"),
        ({"JSNN_CACHE_DIR": "ours", "JAX_COMPILATION_CACHE_DIR": "jax"}, "jax"),
        ({"JSNN_CACHE_DIR": "/proc/nowhere"}, None),  # cannot be written to
    ],
)
def test_programs_are_kept_where_the_environment_says(tmp_path, variables, expected):
    of_the_tests = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in of_the_tests}
    environment |= {**variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2.0\n"
    assert done.stderr == ""
    assert {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*-cache")} == {expected} - {None}
