"""Real language run times in a sandbox, in the images of starter servers: what servers do all day works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from registry.pipeline import build_all
from registry.schema import load_entries
from sandbox.engine import Engine
from tests.fixtures.known_images import only_known_images
from tests.sandbox.conftest import Start

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NODE = """
const fs = require('fs'), http = require('http'), cp = require('child_process'), os = require('os');
const { Worker } = require('worker_threads');
fs.writeFileSync('/tmp/a', 'x');
const say = (what) => console.log(what);
fs.promises.readFile('/tmp/a').then(() => say('files'));
new Worker("require('worker_threads').parentPort.postMessage(0)", { eval: true }).on('message', () => say('threads'));
cp.exec('echo hi', (e) => say(e ? 'no' : 'processes'));
WebAssembly.instantiate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then(() => say('wasm'));
say(Object.keys(os.networkInterfaces()).join() === 'lo' ? 'lo' : 'more');
const s = http.createServer((q, r) => r.end()).listen(0, 'localhost', () =>
  http.get({ port: s.address().port, host: 'localhost' }, (r) => { say('http'); r.resume(); s.close(); }));
"""

PYTHON = """
import asyncio, ctypes, multiprocessing, socket, sqlite3, ssl, subprocess, tempfile, threading
subprocess.run(["/bin/sh", "-c", "true"], check=True); print("processes")
multiprocessing.get_context("fork").Pool(2).map(abs, [1]); print("pool")
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "localhost", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    await reader.read(); writer.close()
    await (await asyncio.create_subprocess_exec("/bin/true")).wait(); print("asyncio")
asyncio.run(main())
thread = threading.Thread(target=print, args=("threads",)); thread.start(); thread.join()
database = sqlite3.connect("/tmp/x.db"); database.execute("create table a(b)"); database.commit(); print("sqlite")
ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)(); tempfile.mkstemp(); ssl.create_default_context(); print("ctypes")
"""

GIT = """cd /tmp && git init -q r && cd r && git config user.email a@b && git config user.name n && echo x > f &&
git add f && git commit -qm m && git gc -q && git clone -q . ../r2 && git -C ../r2 log --format=%s && echo cloned"""

CASES = {
    "everything": (("node", "-e", NODE), {"files", "threads", "processes", "wasm", "lo", "http"}),
    "time": (("python3", "-c", PYTHON), {"processes", "pool", "asyncio", "threads", "sqlite", "ctypes"}),
    "git": (("sh", "-c", GIT), {"m", "cloned"}),
}


@pytest.fixture(scope="module")
def images(
    engine: Engine, built_home: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Image IDs of starter servers: ``HM_TEST_HOME``'s, else built for this run."""
    settings = Settings.load(home=built_home or tmp_path_factory.mktemp("starters"))
    with only_known_images(engine.client, keep=built_home is not None):
        results = build_all(settings, engine, load_entries(settings.servers_dir, tuple(CASES)))
        yield {name: result.image_id for name, result in results.items()}


@pytest.mark.parametrize("server", sorted(CASES))
async def test_what_servers_do_all_day_works(start: Start, images: dict[str, str], server: str) -> None:
    command, expected = CASES[server]
    run = await start(images[server], *command)
    end = await run.end()
    assert (end.status, end.stderr) == (0, "")
    assert {line.decode() for line in run.all_lines()} == expected
