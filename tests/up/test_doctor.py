"""Each odd thing is named with what to do about it."""

import socket
from pathlib import Path

import pytest

from harbourmaster.core.running import listening, recorded
from harbourmaster.core.settings import Settings
from harbourmaster.up import doctor_home
from harbourmaster.up.doctor import examine
from harbourmaster.up.findings import Check, Finding
from harbourmaster.up.report import status_report


def findings(check: Check, settings: Settings) -> list[Finding]:
    return list(check(settings))


def test_every_finding_that_is_not_ok_has_a_remedy_and_no_check_raises(settings: Settings) -> None:
    settings.home.write_text("a file where the folder should be")
    found = examine(settings)
    assert [f for f in found if f.level != "ok" and not f.remedy] == []
    assert any(f.name == "home" and f.level == "missing" for f in found)


def test_on_a_new_machine_home_servers_and_processes_say_how_to_begin(settings: Settings) -> None:
    (home,) = findings(doctor_home.check_home, settings)
    (servers,) = findings(doctor_home.check_servers, settings)
    assert {home.remedy, servers.remedy} == {"run: hm up"}
    ports = {"gateway_port": free_port(), "console_port": free_port(), "runner_port": free_port()}
    processes = findings(doctor_home.check_processes, settings.model_copy(update=ports))
    assert {(p.name, p.level) for p in processes} == {("gateway", "odd"), ("console", "odd"), ("runner", "odd")}


def test_a_port_that_another_program_has_is_named_with_the_setting_that_moves_it(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = findings(doctor_home.check_processes, settings.model_copy(update={"console_port": port}))
    console = next(f for f in found if f.name == "console")
    assert str(port) in console.text
    assert "HM_CONSOLE_PORT" in console.remedy


def test_a_gateway_started_by_hand_counts_as_running(settings: Settings) -> None:
    with recorded(settings.run_dir, "127.0.0.1", 4711):
        (found,) = findings(doctor_home.check_processes, settings)
    assert found.level == "ok"
    assert "4711" in found.text


def test_keys_tokens_and_a_home_that_others_may_read_are_named(settings: Settings) -> None:
    settings.keys_dir.mkdir(parents=True)
    settings.secrets_dir.mkdir()
    settings.home.chmod(0o755)
    for file in (settings.keys_dir / "signing.pem", settings.tokens_file):
        file.write_text("{}")
        file.chmod(0o644)
    remedies = [f.remedy for f in findings(doctor_home.check_home, settings)]
    assert remedies == [f"chmod 700 {settings.home}", f"chmod 600 {settings.keys_dir / 'signing.pem'}"]
    assert [f.remedy for f in findings(doctor_home.check_tokens, settings)] == [f"chmod 600 {settings.tokens_file}"]


def test_a_profile_that_cannot_be_read_is_named(settings: Settings) -> None:
    settings.profiles_dir.mkdir(parents=True)
    (settings.profiles_dir / "work.yaml").write_text("servers: {time: [")
    (broken, _) = findings(doctor_home.check_profiles, settings)
    assert (broken.level, "work" in broken.text) == ("missing", True)


def test_a_broken_lock_is_a_finding_and_not_an_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.home.mkdir()
    settings.lock_file.write_text("garbage")
    found = examine(settings)
    assert any(f.name == "servers" and f.level == "missing" and str(settings.lock_file) in f.text for f in found)
    assert any(f.name == "audit" for f in found)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def test_no_check_leaves_anything_behind_in_a_home_that_is_not_there(settings: Settings) -> None:
    examine(settings)
    assert not Path(settings.home).exists()


def test_status_names_gateways_that_were_started_by_hand(settings: Settings) -> None:
    with recorded(settings.run_dir, "127.0.0.1", free_port()):
        (record,) = (settings.run_dir / "gateways").iterdir()
        other = free_port()
        port = listening(settings.run_dir)[0].port
        record.with_name("other.json").write_text(record.read_text().replace(f": {port}", f": {other}"))
        report = status_report(settings)
    assert report["running"]
    assert {report["url"], report["gateways"][0].split()[0]} == {
        f"http://127.0.0.1:{port}/mcp",
        f"http://127.0.0.1:{other}/mcp",
    }
