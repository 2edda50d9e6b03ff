"""Builds in the real engine: reproducible, locked down, without a trace of the machine's CAs, and honest when they fail."""

from __future__ import annotations

import datetime
import io
import mmap
import shutil
import tarfile
import threading
import uuid
from pathlib import Path

import docker.errors
import pytest
from conftest import Starters
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harbourmaster.core.settings import Settings
from registry.build import container
from registry.build.bases import Bases
from registry.build.builder import BuildContext, build
from registry.build.container import Job, LogTail, run_job, sweep
from registry.build.errors import BuildFailed
from registry.build.network import BuildNetwork, detect
from registry.build.tarball import tar_of
from registry.build.underway import BUILDS
from registry.oci import OciLayout
from registry.pipeline import build_all
from registry.schema import load_entries, load_entry

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]  # the first one builds all servers


@pytest.fixture
def marker(tmp_path: Path) -> bytes:
    """A CA that no one else in the world has, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Harbourmaster test CA")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def network(marker: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildNetwork:
    """The machine's own way out, with the marker CA in the bundle."""
    import os

    (tmp_path / "bundle.pem").write_bytes(marker)
    found = detect(dict(os.environ) | {"CURL_CA_BUNDLE": str(tmp_path / "bundle.pem")})
    assert marker in found.ca_bundle
    return found


def lines_of(pem: bytes) -> list[bytes]:
    return [line for line in pem.splitlines() if not line.startswith(b"-----")]


def blobs_with(layout: OciLayout, manifest: str, needles: list[bytes]) -> list[str]:
    found = []
    for blob in layout.read_manifest(manifest).blobs:
        with layout.blob_path(blob.digest).open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found += [blob.digest for needle in needles if data.find(needle) >= 0]
    return found


@pytest.mark.parametrize("name", ["calculator", "memory"])
def test_a_build_with_another_ca_in_another_home_gives_the_same_manifest(
    starters: Starters, seeded: Settings, network: BuildNetwork, marker: bytes, name: str
) -> None:
    context = BuildContext.create(seeded, starters.engine.client, network)

    built, record = build(starters.entries[name], context)

    assert built.manifest == starters.results[name].manifest
    assert built.image_id in (built.config, built.manifest)
    assert blobs_with(context.layout, built.manifest, lines_of(marker)) == []
    assert len(record.materials) > 5


def test_no_byte_of_a_ca_gets_into_a_layer_of_debian_packages(
    starters: Starters, seeded: Settings, network: BuildNetwork, marker: bytes
) -> None:
    layout = OciLayout(seeded.oci_dir)
    bases = Bases(seeded, starters.engine.client, layout, network)

    base = bases.runtime("node", ("netbase",))

    assert blobs_with(layout, base.manifest, lines_of(marker)) == []
    with layout.open_blob(layout.read_manifest(base.manifest).layers[-1].digest) as f, tarfile.open(fileobj=f) as tar:
        names = tar.getnames()
    assert "etc/protocols" in names
    assert not [n for n in names if n.startswith("run/")]


def test_no_certificate_that_the_machine_added_is_in_any_image(starters: Starters) -> None:
    added = sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt"))
    if not added:
        pytest.skip("this machine has no CA of its own")
    # the first line of base64 is much the same in every certificate; the last but one holds the signature
    needles = [lines_of(path.read_bytes())[-2] for path in added]

    for result in starters.results.values():
        assert blobs_with(starters.layout, result.manifest, needles) == []


def look(starters: Starters, script: str, files: dict[str, bytes] | None = None) -> bytes:
    bases = Bases(starters.settings, starters.engine.client, starters.layout, BuildNetwork())
    output = io.BytesIO()
    job = Job("look", bases.builder("python").image_id, script, tar_of(files or {}))
    run_job(starters.engine.client, job, output, LogTail())
    return output.getvalue()


def test_a_builder_container_is_locked_down(starters: Starters) -> None:
    report = look(starters, "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; touch /x 2>&1 || true")

    lines = report.decode().splitlines()
    assert lines[0] == "65532"
    assert [line.split()[1] for line in lines[1:4]] == ["0" * 16, "0" * 16, "1"]
    assert "Read-only" in lines[4]


def test_the_ca_bundle_and_indexes_reach_the_builder_by_standard_input_alone(starters: Starters, marker: bytes) -> None:
    network = BuildNetwork(marker, {"PIP_INDEX_URL": "https://me:secret@mirror.example/simple"})
    files = {"env": network.shell("/tmp/in/ca.pem"), "ca.pem": network.ca_bundle}

    seen = look(
        starters, 'mkdir /tmp/in; tar -xf - -C /tmp/in; . /tmp/in/env; cat "$PIP_CERT"; echo "$PIP_INDEX_URL"', files
    )

    assert seen == marker + b"https://me:secret@mirror.example/simple\n"


def test_a_failing_step_tells_its_status_and_the_end_of_its_log(starters: Starters) -> None:
    with pytest.raises(BuildFailed) as caught:
        look(starters, "for i in $(seq 100); do echo line $i >&2; done; exit 7")

    assert "look ended with status 7" in caught.value.message
    assert "line 100" in caught.value.message
    assert "line 1\n" not in caught.value.message
    assert caught.value.remedy


def test_builders_leave_no_container_behind(starters: Starters, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = f"harbourmaster.test={uuid.uuid4().hex}"
    monkeypatch.setattr(container, "BUILD_LABELS", dict([mine.split("=")]))

    with pytest.raises(BuildFailed):
        look(starters, "exit 1")
    look(starters, "exit 0")

    assert starters.engine.client.containers.list(all=True, filters={"label": mine}) == []


def test_what_a_killed_build_left_behind_is_swept_away(starters: Starters) -> None:
    labels = {"harbourmaster.test": uuid.uuid4().hex}
    image = starters.results["time"].image_id
    left = starters.engine.client.containers.create(image, ["true"], labels=labels)

    assert sweep(starters.engine.client, labels, older_than_s=3600) == 0  # young ones may be another build's
    assert sweep(starters.engine.client, labels, older_than_s=0) == 1

    with pytest.raises(docker.errors.NotFound):
        left.reload()


def test_one_server_that_fails_is_named_and_stops_no_other(
    starters: Starters, seeded: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "servers"
    for name in ("calculator", "time"):
        shutil.copytree(seeded.servers_dir / name, root / name)
    lock = root / "calculator" / "requirements.lock"
    lock.write_text(tampered(lock.read_text(), "anyio=="))

    results = build_all(seeded, starters.engine, load_entries(root), root=root)

    error = results["calculator"].error
    assert isinstance(error, BuildFailed)
    assert error.message.startswith("calculator: install Python packages")
    assert "anyio" in error.message
    assert error.remedy
    assert results["time"].error is None
    assert results["time"].manifest == starters.results["time"].manifest


def tampered(lock: str, package: str) -> str:
    """The lock with every hash of ``package`` replaced."""
    lines, inside = [], False
    for line in lock.splitlines():
        inside = line.startswith(package) if not line.startswith(" ") else inside
        head, mark, _ = line.partition("sha256:")
        lines.append(
            f"{head}{mark}{'0' * 64}{' ' + chr(92) if line.endswith(chr(92)) else ''}" if inside and mark else line
        )
    return "\n".join(lines) + "\n"


def test_an_image_whose_tag_was_taken_is_found_by_its_digest(starters: Starters, seeded: Settings) -> None:
    entry = load_entry(seeded.servers_dir / "time")
    taken = starters.results["memory"].image_id
    context = BuildContext.create(seeded, starters.engine.client, BuildNetwork())
    record = context.records
    record.put("time", starters_record(starters, "time"))
    copy_image(starters, context.layout, "time")
    starters.engine.client.api.tag(taken, "harbourmaster/time", entry.source.version, force=True)
    try:
        built, _ = build(entry, context)
    finally:
        starters.engine.client.api.tag(starters.results["time"].image_id, "harbourmaster/time", entry.source.version)

    assert built.image_id == starters.results["time"].image_id


def starters_record(starters: Starters, name: str):  # type: ignore[no-untyped-def]
    from registry.build.records import BuildRecords

    return BuildRecords(starters.settings.home).all()[name]


def copy_image(starters: Starters, layout: OciLayout, name: str) -> None:
    manifest = starters.layout.read_manifest(starters.results[name].manifest)
    for blob in manifest.blobs:
        with starters.layout.open_blob(blob.digest) as source:
            layout.put_blob(source, blob.media_type)
    layout.put_manifest(starters.layout.read_manifest_bytes(manifest.digest))


def test_a_build_that_is_broken_off_ends_at_once_and_no_other_builder_starts(starters: Starters) -> None:
    began, outcome = threading.Event(), []
    bases = Bases(starters.settings, starters.engine.client, starters.layout, BuildNetwork())
    job = Job("wait", bases.builder("python").image_id, "echo began >&2; sleep 600")

    def work() -> None:
        try:
            run_job(starters.engine.client, job, io.BytesIO(), LogTail(lambda line: began.set()))
        except BuildFailed as e:
            outcome.append(e)

    worker = threading.Thread(target=work)
    worker.start()
    assert began.wait(60)
    try:
        BUILDS.end()
        worker.join(60)
        assert len(outcome) == 1
        with pytest.raises(BuildFailed, match="broken off"):
            run_job(starters.engine.client, job, io.BytesIO(), LogTail())
    finally:
        BUILDS.begin()
