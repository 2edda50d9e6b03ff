"""Engines with the containerd store know an image by its manifest digest: the archive must keep it there.

Docker's own switch to that store changes a whole machine, so containerd itself is asked, one of this test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tinyimages import files, put_image

from registry.oci import OciLayout

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not (shutil.which("containerd") and shutil.which("ctr") and os.geteuid() == 0),
        reason="needs containerd, ctr and root",
    ),
]

CONFIG = """version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{0}/c.sock"
[ttrpc]
address = "{0}/t.sock"
"""


@pytest.fixture
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a containerd of our own; its path must be short (108 bytes, unix(7))."""
    place = tmp_path_factory.mktemp("ctd")
    (place / "config.toml").write_text(CONFIG.format(place))
    command = ["containerd", "-c", str(place / "config.toml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    socket, until = place / "c.sock", time.monotonic() + 20
    try:
        while not socket.is_socket():
            assert process.poll() is None, "containerd did not start"
            assert time.monotonic() < until, "containerd made no socket"
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait()


def test_an_imported_archive_keeps_its_manifest_digest(containerd: Path, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "oci")
    digest = put_image(layout, files(hello=b"hi"), files(b=b"2"))
    archive = tmp_path / "image.tar"
    archive.write_bytes(layout.archive(digest, "hm-test/tiny:1").read())
    ctr = ["ctr", "--address", str(containerd), "images"]
    subprocess.run([*ctr, "import", "--no-unpack", str(archive)], check=True, capture_output=True)
    listed = subprocess.run([*ctr, "list"], check=True, capture_output=True, text=True).stdout
    assert "docker.io/hm-test/tiny:1" in listed
    assert digest in listed
