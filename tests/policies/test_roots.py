"""Trusted roots: embedded, from a file, or refreshed over TUF."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from policies import roots


def test_the_public_good_root_is_at_hand_without_any_network() -> None:
    root = roots.load(None)
    assert root.get_fulcio_certs()


def test_a_refresh_that_reaches_nobody_is_an_error_and_no_silent_fallback(tmp_path: Path) -> None:
    code = (
        "from harbourmaster.core.errors import UnavailableError; from policies import roots\n"
        "try:\n    roots.refreshed()\nexcept UnavailableError as e:\n    print(e.code, bool(e.remedy))\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= {"HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"}  # the discard port: nothing listens
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["unavailable", "True"], done.stderr
