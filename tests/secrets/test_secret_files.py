"""Secrets as files in a sandbox: exact, the server's alone, in memory, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import secretfiles
from sandbox.engine import Engine
from sandbox.errors import SpecRefused
from sandbox.profile import Profile, container_config
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import ImageFacts, SandboxSpec
from tests.fixtures.images import build_echo_image
from tests.secrets.conftest import CANARY

ID = "sha256:" + "0" * 64
SHELL = ImageFacts(command=("/server",))


def through_a_shell(tmp_path: Path, files: dict[str, str], *command: str, stdin: bytes = b"") -> bytes:
    """The script as a sandbox runs it, on this machine's /bin/sh, with the folder moved."""
    script = secretfiles.SCRIPT.replace(secretfiles.PLACE, str(tmp_path))
    data = secretfiles.preamble(files) + stdin
    argv = ["/bin/sh", "-c", script, "secrets", *command]
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "value",
    [CANARY, "a\nb\n\n", "\n", " lead and trail ", "\\n\\0101\\c%d%%", "-n", "\x01\x7f\t\r", "日本", "x" * 20_000],
    ids=["awkward", "lines", "newline", "spaces", "escapes", "option", "controls", "unicode", "long"],
)
def test_a_value_reaches_its_file_byte_for_byte(tmp_path: Path, value: str) -> None:
    through_a_shell(tmp_path, {"a.b": value, "empty-neighbour": "x"}, "true")
    assert (tmp_path / "a.b").read_bytes() == value.encode()
    assert (tmp_path / "a.b").stat().st_mode & 0o777 == 0o400


def test_what_follows_on_stdin_is_the_server_s_to_the_byte(tmp_path: Path) -> None:
    rest = b'{"jsonrpc":"2.0"}\n\n\x00tail'
    assert through_a_shell(tmp_path, {"a": "value"}, "cat", stdin=rest) == rest


def test_the_server_inherits_neither_the_value_nor_a_changed_mask(tmp_path: Path) -> None:
    mask = subprocess.run(["sh", "-c", "umask"], capture_output=True, check=True).stdout
    said = through_a_shell(tmp_path, {"a": "canary"}, "sh", "-c", "umask; env; cat /proc/$$/cmdline")
    assert said.startswith(mask)
    assert b"canary" not in said
    assert b"HM_N=" not in said
    assert b"HM_V=" not in said


def test_a_shell_that_does_not_get_everything_starts_nothing(tmp_path: Path) -> None:
    script = secretfiles.SCRIPT.replace(secretfiles.PLACE, str(tmp_path))
    cut = secretfiles.preamble({"a": "value"})[:-1]
    done = subprocess.run(["sh", "-c", script, "s", "echo", "started"], input=cut, capture_output=True)
    assert (done.returncode, done.stdout) == (secretfiles.CUT_SHORT, b"")


def test_the_container_has_a_small_tmpfs_of_the_server_s_user_and_no_value() -> None:
    spec = SandboxSpec("alpha", ID, user="1000:1001", secret_files={"a": "canary"})
    body = container_config(Profile.load(), spec, ImageFacts(entrypoint=("/entry",), command=("serve",)))
    options = body["HostConfig"]["Tmpfs"]["/run/secrets"].split(",")
    assert {"nosuid", "nodev", "noexec", "mode=700", "uid=1000", "gid=1001", "size=1048576"} <= set(options)
    assert body["Entrypoint"][0] == "/bin/sh"
    assert body["Cmd"] == ["/entry", "serve"]
    assert "canary" not in json.dumps(body) + repr(spec)


def test_without_files_the_container_is_what_it_was() -> None:
    body = container_config(Profile.load(), SandboxSpec("alpha", ID), SHELL)
    assert "Entrypoint" not in body
    assert "/run/secrets" not in body["HostConfig"]["Tmpfs"]


@pytest.mark.parametrize(
    ("files", "image"),
    [
        ({"../a": "x"}, SHELL),
        ({"": "x"}, SHELL),
        ({"a": "x\0"}, SHELL),
        ({"a": "x" * 600_000}, SHELL),
        ({"a": "x"}, ImageFacts()),
        ({"a": "x"}, ImageFacts(command=("/s",), volumes=("/run/secrets",))),
    ],
    ids=["path", "no name", "nul", "too large", "no command", "volume"],
)
def test_files_that_cannot_be_delivered_are_refused(files: dict[str, str], image: ImageFacts) -> None:
    with pytest.raises(SpecRefused):
        container_config(Profile.load(), SandboxSpec("alpha", ID, secret_files=files), image)


# -- in a real sandbox

Started = tuple[Sandbox, "asyncio.Queue[bytes]", "asyncio.Future[Exit]"]


@pytest.fixture
async def start(engine: Engine) -> Any:
    boxes: list[Sandbox] = []

    async def start_(image: str, *command: str, **more: Any) -> Started:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        spec = SandboxSpec("alpha", image, command=command, **more)
        box = await Sandbox.start(engine, Profile.load(), spec, on_line=lines.put_nowait, on_exit=end.set_result)
        boxes.append(box)
        return box, lines, end

    yield start_
    for box in boxes:
        await box.stop(grace_s=0.1)


Start = Callable[..., Awaitable[Started]]


@pytest.mark.engine
async def test_a_sandbox_reads_its_file_and_inspect_shows_no_value(
    start: Start, engine: Engine, shell_image: str
) -> None:
    look = 'IFS= read -r V </run/secrets/key; printf "%s\\n" "$V"; read -r L; printf "%s\\n" "$L"; read -r L'
    box, lines, _ = await start(shell_image, "/bin/sh", "-c", look, secret_files={"key": CANARY})
    assert await lines.get() == CANARY.encode()
    box.write(b"a message\n")
    assert await lines.get() == b"a message"
    shown = json.dumps(engine.api.inspect_container(box.id), ensure_ascii=False)
    listed = json.dumps(engine.api.top(box.id))
    for text in (shown, listed):
        assert "cnry" not in text


@pytest.mark.engine
async def test_the_file_s_place_takes_nothing_to_disk(start: Start, engine: Engine, shell_image: str) -> None:
    box, lines, _ = await start(
        shell_image, "/bin/sh", "-c", "echo ready; read -r L", secret_files={"key": "canary-on-disk"}
    )
    await lines.get()
    changes = [c["Path"] for c in engine.api.diff(box.id) or ()]
    assert not any(path.startswith("/run/secrets/") for path in changes)


@pytest.mark.engine
async def test_what_a_server_prints_of_its_file_is_redacted(start: Start, shell_image: str) -> None:
    command = 'IFS= read -r V </run/secrets/key; echo "leaked $V" >&2; exit 3'
    _, _, end = await start(shell_image, "/bin/sh", "-c", command, secret_files={"key": "canary-in-stderr"})
    ended = await asyncio.wait_for(end, 60)
    assert ended.status == 3
    assert ended.stderr == "leaked [redacted]\n"


@pytest.mark.engine
async def test_an_image_without_a_shell_says_so(start: Start, engine: Engine) -> None:
    _, _, end = await start(build_echo_image(engine), "/server", secret_files={"key": "value"})
    assert "no /bin/sh" in (await asyncio.wait_for(end, 60)).reason
