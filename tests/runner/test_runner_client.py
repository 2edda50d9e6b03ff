"""The command line's way to the runner on this machine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from runner.cli_output import fitting
from runner.client import RunnerClient, proxied


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def runner() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # discard (RFC 863): nobody listens
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert RunnerClient(runner).is_up()
    assert RunnerClient(runner).get("/engines/ps") == {}


def test_other_machines_may_be_behind_the_proxy() -> None:
    assert proxied("http://runner.example:12434")
    assert not proxied("http://[::1]:12434")
    assert not proxied("http://localhost/v1")


def test_a_table_leaves_out_what_can_be_spared_until_it_fits() -> None:
    columns, rows = ["NAME", "ID", "SIZE"], [["a" * 20, "b" * 20, "c" * 5]]
    assert fitting(columns, rows, ("ID", "SIZE"), 80)[0] == columns
    assert fitting(columns, rows, ("ID", "SIZE"), 40) == (["NAME", "SIZE"], [["a" * 20, "c" * 5]])
    assert fitting(columns, rows, ("ID", "SIZE"), 10)[0] == ["NAME"]
