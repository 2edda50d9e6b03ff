"""A small server in a git repository on this machine, found at a public address by git's own configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ADDRESS = "https://git.example.org/acme/ahoy"
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "mcp-server-ahoy"
version = "1.0"
description = "Says ahoy."
license = "MIT"
dependencies = []
[project.scripts]
mcp-server-ahoy = "ahoy:main"
"""
# A build backend of its own (PEP 517): needs nothing, and would find nothing, of the network
BACKEND = """
import base64, hashlib, pathlib, socket, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    try:
        socket.create_connection(("1.1.1.1", 53), timeout=1)
        raise SystemExit("the build has a network")
    except OSError:
        pass
    name = "mcp_server_ahoy-1.0-py3-none-any.whl"
    info = "mcp_server_ahoy-1.0.dist-info/"
    files = {"ahoy.py": pathlib.Path("ahoy.py").read_bytes(),
             info + "METADATA": b"Metadata-Version: 2.1\\nName: mcp-server-ahoy\\nVersion: 1.0\\nLicense: MIT\\n",
             info + "WHEEL": b"Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
             info + "entry_points.txt": b"[console_scripts]\\nmcp-server-ahoy = ahoy:main\\n"}
    lines = []
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(data)}")
        wheel.writestr(info + "RECORD", "\\n".join([*lines, info + "RECORD,,"]) + "\\n")
    return name
"""
SERVER = """
import json, sys

TOOL = {"name": "greet", "description": "Greets.", "inputSchema": {"type": "object", "properties": {}}}

def main():
    for line in sys.stdin:
        said = json.loads(line)
        if "id" not in said:
            continue
        if said["method"] == "initialize":
            result = {"protocolVersion": said["params"]["protocolVersion"], "capabilities": {"tools": {}},
                      "serverInfo": {"name": "ahoy", "version": "1.0"}}
        elif said["method"] == "tools/list":
            result = {"tools": [TOOL]}
        else:
            result = {"content": [{"type": "text", "text": "ahoy"}]}
        print(json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}), flush=True)
"""
ENTRY = """\
name: ahoy
type: server
tier: built
about: {{title: Ahoy, description: Says ahoy.}}
meta: {{category: utilities}}
source:
  kind: git
  repository: {address}
  commit: "{commit}"
  directory: server
  package: mcp-server-ahoy
  url: {address}
  licence: MIT
build: {{runtime: python}}
run: {{command: [mcp-server-ahoy]}}
test:
  calls:
    - {{tool: greet, arguments: {{}}, expect: {{contains: ahoy}}}}
"""


def make(place: Path, config: Path) -> None:
    """The repository at ``place``; ``config``: where git's own configuration says that ``ADDRESS`` leads there."""
    (place / "server").mkdir(parents=True)
    for name, text in (("pyproject.toml", PROJECT), ("backend.py", BACKEND), ("ahoy.py", SERVER)):
        (place / "server" / name).write_text(text)
    config.write_text(f'[url "file://{place}"]\n\tinsteadOf = {ADDRESS}\n[user]\n\tname = A\n\temail = a@localhost\n')
    git(place, "init", "--quiet", "--initial-branch=main")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message=One")


def git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=place, check=True, capture_output=True, env=dict(os.environ))
    return done.stdout.decode().strip()


def entry_at(root: Path, commit: str) -> Path:
    folder = root / "ahoy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.yaml").write_text(ENTRY.format(address=ADDRESS, commit=commit))
    return folder
