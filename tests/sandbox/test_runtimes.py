"""Real language run times under the system call list: what servers do all day works.

Uses the builder's base images where this engine has them.
"""

from __future__ import annotations

import pytest

from sandbox.engine import Engine
from tests.sandbox.conftest import Start

pytestmark = pytest.mark.engine

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
    "node": (("node", "-e", NODE), {"files", "threads", "processes", "wasm", "lo", "http"}),
    "python": (("python3", "-c", PYTHON), {"processes", "pool", "asyncio", "threads", "sqlite", "ctypes"}),
    "python.git": (("sh", "-c", GIT), {"m", "cloned"}),
}


@pytest.mark.parametrize("base", sorted(CASES))
async def test_what_servers_do_all_day_works(engine: Engine, start: Start, base: str) -> None:
    image = engine.image_id(f"harbourmaster/base-{base}:1")
    if image is None:
        pytest.skip(f"no base image for {base} on this engine; hm up makes it")
    command, expected = CASES[base]
    run = await start(image, *command)
    end = await run.end()
    assert (end.status, end.stderr) == (0, "")
    assert {line.decode() for line in run.all_lines()} == expected
