"""The one script, ./hm, on machines that lack things.  That it works on a whole machine is what .ci/run shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "readlink", "cat", "cksum", "id", "mkdir", "rm", "flock")


def run_hm(
    tmp_path: Path, *arguments: str, script: Path = ROOT / "hm", **environment: str
) -> subprocess.CompletedProcess[str]:
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    for name in TOOLS:
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    env = {"PATH": str(tools), "HM_VENV": str(tmp_path / "venv"), "HOME": str(tmp_path), **environment}
    return subprocess.run(
        ["/bin/sh", str(script), *arguments], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_without_python_it_says_what_to_install_and_changes_nothing(tmp_path: Path) -> None:
    result = run_hm(tmp_path, "up")
    assert result.returncode == 1
    assert "error [python.missing]" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (tmp_path / "venv" / "bin").exists()


def test_python_without_venv_counts_as_missing(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    assert "python.missing" in run_hm(tmp_path, "version").stderr


def test_silence_at_the_prompt_is_a_no(tmp_path: Path) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f"#!/bin/sh\necho called >{tmp_path}/apt-was-called\n")
    apt.chmod(0o755)
    result = run_hm(tmp_path, "up")
    assert result.returncode == 1
    assert "--yes" in result.stderr
    assert not (tmp_path / "apt-was-called").exists()


def test_it_works_through_symbolic_links_from_anywhere(tmp_path: Path) -> None:
    # An environment already made for this very lock is used as it is: nothing is installed.
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    stamp = subprocess.run(
        "cat requirements.lock pyproject.toml | cksum", shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    )
    (venv / ".hm-run").write_text(stamp.stdout.strip())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one").symlink_to(ROOT / "hm")
    (tmp_path / "two").symlink_to("deep/one")
    result = run_hm(tmp_path, "version", "--json", script=tmp_path / "two", PYTHONPATH=os.pathsep.join(sys.path))
    assert result.returncode == 0, result.stderr
    assert '"harbourmaster"' in result.stdout
