"""What cloud-init's own schema says of a cloud-config, where cloud-init is installed on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orchestrator.drivers.process import run
from orchestrator.errors import Missing, TransientError
from orchestrator.model.text import lines

SCHEMA_S = 20.0
MAX_LINES = 5


def schema_problems(config: str) -> tuple[str, ...]:
    """What is wrong with a cloud-config (a JSON object's text); () if nothing, or if there is nobody to ask."""
    with tempfile.TemporaryDirectory(prefix="vmrole-") as folder:
        path = Path(folder) / "user-data"
        path.write_text(f"#cloud-config\n{config}\n", encoding="utf-8")
        try:
            done = run(["cloud-init", "schema", "--config-file", str(path)], timeout_s=SCHEMA_S, check=False)
        except (Missing, TransientError):
            return ()
    said = lines(f"{done.stdout}\n{done.stderr}")
    told = [line.replace(str(path), "user_data") for line in said if not line.endswith(":")]
    return tuple(told[:MAX_LINES]) if done.code else ()
