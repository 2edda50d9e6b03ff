"""`hm status` is asked often: it loads nothing that reads models or builds anything."""

from __future__ import annotations

import subprocess
import sys


def test_a_status_loads_neither_numbers_nor_templates_nor_signatures() -> None:
    code = "import sys, harbourmaster.cli_up, harbourmaster.up.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "jinja2", "sigstore", "cyclonedx", "sqlalchemy", "docker", "mcp", "mcp_types"} & set(loaded)
