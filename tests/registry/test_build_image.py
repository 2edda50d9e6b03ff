"""The image configuration that we write: what a server runs as, and that it is the same every time."""

from __future__ import annotations

import json
from pathlib import Path

from harbourmaster.core.digests import sha256
from harbourmaster.core.settings import PROJECT_ROOT
from registry.build.bases import Base
from registry.build.builder import Inputs, server_config
from registry.build.image import Config, Part, assemble, config_bytes, environment_of, image_config, parts_of
from registry.oci import OciLayout, media
from registry.oci.descriptor import Descriptor
from registry.schema import load_entry

SERVERS = PROJECT_ROOT / "registry" / "servers"
LAYER = Descriptor.of(b"layer", media.LAYER_TAR)
BASE = Base("python", "sha256:" + "b" * 64, "sha256:" + "c" * 64, "debian:trixie")


def test_a_server_runs_as_nobody_with_its_command_and_default_parameters() -> None:
    config = server_config(load_entry(SERVERS / "time"), BASE, {"PATH": "/usr/local/bin:/usr/bin"})

    assert config.user == "65532:65532"
    assert config.command == ("mcp-server-time", "--local-timezone=UTC")
    assert config.entrypoint == ()  # a sandbox replaces the command as a whole
    assert config.env["PATH"].startswith("/opt/server/bin:")
    assert config.labels["io.modelcontextprotocol.server.name"] == "dev.harbourmaster/time"
    assert config.labels["org.opencontainers.image.base.digest"] == BASE.manifest


def test_the_same_parts_give_the_same_bytes() -> None:
    config = Config(command=("a",), env={"B": "2", "A": "1"}, labels={"y": "2", "x": "1"})
    again = Config(command=("a",), env={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"})

    one = config_bytes([Part(LAYER, "made")], config, "amd64")

    assert one == config_bytes([Part(LAYER, "made")], again, "amd64")
    assert json.loads(one)["rootfs"]["diff_ids"] == [LAYER.digest]  # uncompressed: layer digest = diff ID
    assert json.loads(one)["created"] == "2026-01-01T00:00:00Z"


def test_an_assembled_image_can_be_built_upon(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    layer = layout.put_blob(b"layer", media.LAYER_TAR)

    manifest, config = assemble(layout, [Part(layer, "made")], Config(env={"A": "1"}), tag="base/x:1")

    assert parts_of(layout, manifest) == [Part(layer, "made")]
    assert environment_of(layout, manifest) == {"A": "1"}
    assert layout.resolve("base/x:1") == manifest
    assert sha256(layout.read_blob(config)) == config
    assert image_config(layout, manifest)["os"] == "linux"


def test_every_input_changes_the_digest_that_says_whether_to_build() -> None:
    entry = load_entry(SERVERS / "time")
    inputs = Inputs.read(entry, SERVERS)
    lock = {name: data + b"\n" for name, data in inputs.locks.items()}

    digests = {
        inputs.digest("a", "b"),
        inputs.digest("x", "b"),
        inputs.digest("a", "x"),
        Inputs(entry, inputs.entry_bytes + b"#", inputs.locks).digest("a", "b"),
        Inputs(entry, inputs.entry_bytes, lock).digest("a", "b"),
    }

    assert len(digests) == 5
    assert inputs.digest("a", "b") == Inputs.read(entry, SERVERS).digest("a", "b")


def test_an_edited_description_does_not_install_everything_again() -> None:
    inputs = Inputs.read(load_entry(SERVERS / "time"), SERVERS)
    edited = Inputs(inputs.entry, inputs.entry_bytes + b"# edited", inputs.locks)

    assert edited.install_digest("b") == inputs.install_digest("b")
    assert edited.install_digest("other") != inputs.install_digest("b")
