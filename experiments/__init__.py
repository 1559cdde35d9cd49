"""Training runs from configs: `python -m experiments.run CONFIG` in a checkout."""

from pathlib import Path

from jsnn.extras import require

require("run", "jinja2", "matplotlib", "pydantic", "rich", "scipy", "sklearn", "tensorboardX", "tyro")

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
