"""Push and pull with papers: against Debian's docker-registry, a registry with the referrers API, and lying ones."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from ociserver import PASSWORD, USER, OciServer
from papered import Harbour, harbour, sign
from test_verify import cosign
from tinyimages import put_image, tree

from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError, UsageError
from policies.statements import LISTING, PROVENANCE, SBOM
from registry.errors import RemoteInsecure, RemoteLied, RemoteNotFound, RemoteUnauthorized, RemoteUnavailable
from registry.oci import OciLayout, media
from registry.oci import transport as transports
from registry.oci.auth import _belongs
from registry.oci.reference import Reference, is_loopback
from registry.oci.remote import Remote

ME = (USER, PASSWORD)


@pytest.fixture
def place(home: Path) -> Harbour:
    return harbour(home)


@pytest.fixture
def server() -> Iterator[OciServer]:
    with OciServer() as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "other")


def arrived(place: Harbour, other: OciLayout, digest: str) -> None:
    """The image verifies from ``other`` alone, deeply, and is there whole."""
    place.layout = other
    evidence = place.verifier().verify(place.target(), deep=True)
    assert evidence.image == digest


# -- honest registries


def test_an_image_and_its_papers_survive_a_registry_without_the_referrers_api(
    place: Harbour, other: OciLayout, debian_registry: str
) -> None:
    digest, ref = place.papered(), f"{debian_registry}/team/tiny:1"
    Remote().push(place.layout, digest, ref)
    with urlopen(f"http://{debian_registry}/v2/team/tiny/tags/list") as answer:
        assert f"sha256-{digest[7:]}" in json.load(answer)["tags"]
    assert Remote().pull(ref, other, tag="tiny:1") == digest
    assert len(other.referrers(digest, media.SIGSTORE_BUNDLE)) == 4
    arrived(place, other, digest)


def test_pushing_again_lists_each_paper_once(place: Harbour, debian_registry: str) -> None:
    digest, ref = place.papered(), f"{debian_registry}/tiny:1"
    for _ in range(2):
        Remote().push(place.layout, digest, ref)
    address = f"http://{debian_registry}/v2/tiny/manifests/sha256-{digest[7:]}"
    with urlopen(Request(address, headers={"Accept": media.INDEX})) as answer:
        listed = [m["digest"] for m in json.load(answer)["manifests"]]
    assert len(listed) == len(set(listed)) == 4


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_sees_the_same_image_and_can_copy_it(
    place: Harbour, other: OciLayout, debian_registry: str, tmp_path: Path
) -> None:
    digest, ref = place.papered(), f"{debian_registry}/tiny:1"
    Remote().push(place.layout, digest, ref)
    insecure = ["--tls-verify=false"]
    raw = subprocess.run(["skopeo", "inspect", *insecure, "--raw", f"docker://{ref}"], capture_output=True, check=True)
    assert sha256(raw.stdout) == digest
    copy = [
        "skopeo",
        "copy",
        "--src-tls-verify=false",
        "--preserve-digests",
        f"docker://{ref}",
        f"oci:{tmp_path / 'c'}:1",
    ]
    subprocess.run(copy, capture_output=True, check=True)
    assert OciLayout(tmp_path / "c").resolve("1") == digest


def test_an_image_and_its_papers_survive_a_registry_with_the_referrers_api(
    place: Harbour, other: OciLayout, server: OciServer
) -> None:
    digest, ref = place.papered(), f"{server.host}/tiny:1"
    Remote().push(place.layout, digest, ref)
    assert not [name for name in server.manifests["tiny"] if name.startswith("sha256-")], "no fallback tag is needed"
    assert len(server.referrers("tiny", digest)) == 4
    assert Remote().pull(ref, other, tag="tiny:1") == digest
    arrived(place, other, digest)


def test_papers_about_papers_and_cosigns_older_signatures_travel_too(
    place: Harbour, other: OciLayout, server: OciServer
) -> None:
    digest = place.image()
    sign(place.layout, digest, place.key, (SBOM, PROVENANCE, LISTING))
    cosign(place, digest)
    (first, *_) = place.layout.referrers(digest)
    note = place.layout.add_referrer(first.digest, b"a note", artifact_type="text/plain")
    Remote().push(place.layout, digest, f"{server.host}/tiny:1")
    Remote().pull(f"{server.host}/tiny:1", other, tag="tiny:1")
    assert other.referrers(first.digest) == [note]
    arrived(place, other, digest)


def test_a_list_of_referrers_on_several_pages_is_read_to_its_end(
    place: Harbour, other: OciLayout, server: OciServer
) -> None:
    digest = place.papered()
    Remote().push(place.layout, digest, f"{server.host}/tiny:1")
    server.lies.add("pages")
    Remote().pull(f"{server.host}/tiny@{digest}", other)
    assert len(other.referrers(digest)) == 4


def test_a_manifests_exact_bytes_arrive_whatever_its_spacing(
    place: Harbour, other: OciLayout, server: OciServer
) -> None:
    digest = place.image()
    body = json.loads(place.layout.read_manifest_bytes(digest))
    odd = place.layout.put_manifest(json.dumps(body, indent=7).encode() + b"\n\n").digest
    Remote().push(place.layout, odd, f"{server.host}/tiny:1")
    assert Remote().pull(f"{server.host}/tiny:1", other) == odd
    assert Remote().resolve(f"{server.host}/tiny:1") == odd


def test_this_machines_platform_is_chosen_from_an_index(place: Harbour, other: OciLayout, server: OciServer) -> None:
    one, two = put_image(place.layout, tree({"a": b"1"})), put_image(place.layout, tree({"a": b"2"}))
    for digest in (one, two):
        Remote().push(place.layout, digest, f"{server.host}/many@{digest}")
    entries = [
        {**place.layout.read_manifest(d).descriptor.as_dict(), "platform": {"os": "linux", "architecture": a}}
        for d, a in ((one, "amd64"), (two, "riscv64"))
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries}).encode()
    server.manifests["many"]["1"] = (media.INDEX, index)
    assert Remote().pull(f"{server.host}/many:1", other, platform="linux/riscv64") == two
    with pytest.raises(RemoteNotFound, match="s390x"):
        Remote().pull(f"{server.host}/many:1", other, platform="linux/s390x")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_credentials_open_a_registry_that_asks_for_them(place: Harbour, other: OciLayout, scheme: str) -> None:
    with OciServer(auth=scheme) as server:
        digest, ref = place.papered(), f"{server.host}/tiny:1"
        Remote(credentials=ME).push(place.layout, digest, ref)
        assert Remote(credentials=ME).pull(ref, other) == digest
        for nobody in (None, (USER, "wrong")):
            with pytest.raises(RemoteUnauthorized):
                Remote(credentials=nobody).pull(ref, other)


# -- registries that lie


def refused(server: OciServer, other: OciLayout, error: type[HarbourError], ref: str = "tiny:1") -> HarbourError:
    with pytest.raises(error) as caught:
        Remote().pull(f"{server.host}/{ref}", other, tag="tiny:1")
    assert other.tags() == {}, "no name is given to what did not arrive whole"
    for digest in other.blobs.all():
        other.verify_blob(digest)
    assert not other.blobs.ingest_dir.exists() or list(other.blobs.ingest_dir.iterdir()) == []
    return caught.value


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ("other bytes", "digest.mismatch"),
        ("truncated", "remote.lied"),
        ("longer", "remote.lied"),
        ("shorter", "digest.mismatch"),
        ("other manifest", "remote.lied"),
        ("huge manifest", "remote.lied"),
        ("foreign referrer", "remote.lied"),
        ("pages elsewhere", "remote.insecure"),
        ("pages without end", "remote.lied"),
        ("500", "remote.unavailable"),
    ],
)
def test_each_lie_has_its_error_and_leaves_nothing_half_written(
    place: Harbour, other: OciLayout, server: OciServer, lie: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "BACKOFF_S", 0)
    digest = place.papered()
    place.layout.add_referrer(place.layout.referrers(digest)[0].digest, b"a note", artifact_type="text/plain")
    Remote().push(place.layout, digest, f"{server.host}/tiny:1")
    server.lies.add(lie)
    assert refused(server, other, HarbourError).code == code


def test_a_digest_in_the_name_binds_the_registry(place: Harbour, other: OciLayout, server: OciServer) -> None:
    digest = place.papered()
    Remote().push(place.layout, digest, f"{server.host}/tiny:1")
    server.lies.add("other manifest, told so")
    refused(server, other, RemoteLied, f"tiny@{digest}")


def test_a_push_that_is_stored_under_another_digest_is_an_error(place: Harbour, server: OciServer) -> None:
    server.lies.add("stored otherwise")
    with pytest.raises(RemoteLied):
        Remote().push(place.layout, place.papered(), f"{server.host}/tiny:1")


def test_a_damaged_blob_is_not_pushed(place: Harbour, server: OciServer) -> None:
    from tinyimages import flip_byte

    digest = place.papered()
    flip_byte(place.layer_path(digest))
    with pytest.raises(HarbourError) as caught:
        Remote().push(place.layout, digest, f"{server.host}/tiny:1")
    assert caught.value.code == "digest.mismatch"
    assert server.manifests == {}


def test_a_redirect_to_another_host_gets_the_bytes_but_never_the_credentials(place: Harbour, other: OciLayout) -> None:
    with OciServer(auth="bearer") as server, OciServer() as store:
        digest, ref = place.papered(), f"{server.host}/tiny:1"
        Remote(credentials=ME).push(place.layout, digest, ref)
        store.blobs = server.blobs
        server.elsewhere = f"http://{store.host}/v2/tiny/blobs/{{digest}}"
        server.lies.add("redirect")
        assert Remote(credentials=ME).pull(ref, other) == digest
        assert store.requests
        assert [authorization for _, _, authorization in store.requests if authorization] == []


@pytest.mark.parametrize("target", ["http://203.0.113.7/x", "file:///etc/passwd", "ftp://203.0.113.7/"])
def test_a_redirect_away_from_https_is_refused(
    place: Harbour, other: OciLayout, server: OciServer, target: str
) -> None:
    Remote().push(place.layout, place.papered(), f"{server.host}/tiny:1")
    server.elsewhere = target
    server.lies.add("redirect")
    refused(server, other, RemoteInsecure)


def test_a_redirect_in_a_circle_ends(place: Harbour, other: OciLayout, server: OciServer) -> None:
    Remote().push(place.layout, place.papered(), f"{server.host}/tiny:1")
    server.elsewhere = "/v2/tiny/blobs/{digest}"
    server.lies.add("redirect")
    refused(server, other, RemoteLied)


@pytest.mark.parametrize("realm", ["http://203.0.113.7/token", "https://evil.example/token", "file:///etc/passwd", ""])
def test_a_password_is_not_sent_where_it_does_not_belong(other: OciLayout, realm: str) -> None:
    with OciServer(auth="bearer") as server:
        server.realm = realm or "nonsense"
        with pytest.raises(RemoteInsecure):
            Remote(credentials=ME).pull(f"{server.host}/tiny:1", other)


def test_a_registry_that_is_not_there_is_unavailable(other: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "BACKOFF_S", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        with pytest.raises(RemoteUnavailable):
            Remote().pull(f"127.0.0.1:{free.getsockname()[1]}/tiny:1", other)


def test_what_is_not_there_is_not_found(other: OciLayout, server: OciServer) -> None:
    refused(server, other, RemoteNotFound, "nobody:1")


def test_what_a_registry_says_about_its_errors_cannot_steer_the_terminal(
    other: OciLayout, server: OciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "BACKOFF_S", 0)
    server.lies.add("500")
    error = refused(server, other, RemoteUnavailable)
    assert "out of order" in error.message
    assert "\x1b" not in error.message


# -- names


def test_http_is_for_loopback_unless_asked_for() -> None:
    from registry.oci.transport import Transport

    for host, plain, scheme in (
        ("127.0.0.1:5000", False, "http"),
        ("localhost:5000", False, "http"),
        ("[::1]:5000", False, "http"),
        ("registry.example.org", False, "https"),
        ("127.0.0.1.example.org", False, "https"),
        ("10.0.0.7:5000", False, "https"),
        ("10.0.0.7:5000", True, "http"),
    ):
        transport = Transport(Reference.parse(f"{host}/x:1"), plain_http=plain, credentials=ME)
        assert transport.url("manifests/1") == f"{scheme}://{host}/v2/x/manifests/1"
        transport.close()
    assert not is_loopback("localhost.example.org")


@pytest.mark.parametrize(
    "text",
    ["", "tiny", "tiny:1", "team/tiny:1", "h.example/", "h.example/Tiny", "h.example/a//b", "h.example/../x",
     "h.example/x:", "h.example/x:a b", "h.example/x@sha256:abc", "h.example/x@", "u:p@h.example/x", "h.example:99/x?y=1",
     "https://h.example/x"],
)  # fmt: skip
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_a_name_without_tag_or_digest_means_latest() -> None:
    assert Reference.parse("h.example:443/a/b").version == "latest"
    digest = sha256(b"")
    assert Reference.parse(f"h.example/b:1@{digest}").version == digest


@pytest.mark.parametrize(
    ("token_host", "registry", "allowed"),
    [
        ("auth.docker.io", "registry-1.docker.io", True),
        ("ghcr.example", "ghcr.example", True),
        ("gitlab.example.org", "registry.gitlab.example.org:5050", True),
        ("auth.registry.example.org", "registry.example.org", True),
        ("org", "registry.example.org", False),
        ("evilregistry.example.org", "registry.example.org", False),
        ("evil.example", "registry.example.org", False),
    ],
)
def test_which_token_hosts_a_registrys_password_may_go_to(token_host: str, registry: str, allowed: bool) -> None:
    assert _belongs(token_host, registry) is allowed
