"""Tier community: a publisher's image by digest, looked into here, run in the sandbox; and what is not that image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ociserver import OciServer

from harbourmaster.core.settings import Settings
from harbourmaster.up.locking import locked_server
from policies.bundles import sign_statement
from policies.errors import AdmissionDenied, TrustEmpty, UntrustedKey
from policies.keys import SigningKey
from policies.policy_set import PolicySet
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from policies.trust import TrustPolicy
from registry.build.errors import EntryInvalid, EntryUnbuildable
from registry.build.records import BuildRecords
from registry.check import Checker
from registry.errors import PinDiffers
from registry.oci import media
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote, this_platform
from registry.pipeline import BuildResult, build_all
from registry.sbom.marks import MARK
from registry.schema import load_entry, parse_entry
from registry.target import target_of_entry
from registry.update import propose
from registry.verify import Verifier
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.fixtures.images import ECHO_SOURCE, build_echo_image, build_image

pytestmark = pytest.mark.engine

ENTRY = """\
name: echo
type: server
tier: community
about: {{title: Echo, description: Says back what it is told.}}
meta: {{category: utilities}}
image: {image}
test:
  calls:
    - {{tool: echo, arguments: {{text: ahoy}}, expect: {{contains: ahoy}}}}
"""


@dataclass(frozen=True)
class Published:
    """Somebody else's image in somebody else's registry; ``index`` is a multi-platform image that lists it."""

    server: OciServer
    layout: OciLayout
    manifest: str
    index: str
    key: SigningKey

    def ref(self, digest: str = "", tag: str = "1.0") -> str:
        return f"{self.server.host}/acme/echo:{tag}@{digest or self.manifest}"


@pytest.fixture
def published(engine: Engine, tmp_path: Path) -> Iterator[Published]:
    layout, key = OciLayout(tmp_path / "publisher"), SigningKey.generate()
    manifest = import_engine_image(engine.client, build_echo_image(engine), layout)
    with OciServer() as server:
        Remote().push(layout, manifest, f"{server.host}/acme/echo:1.0")
        system, _, machine = this_platform().partition("/")
        described = layout.read_manifest(manifest).descriptor.as_dict()
        listed = [described | {"platform": {"os": system, "architecture": machine}}]
        index = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": listed}).encode()
        digest = layout.put_index(index).digest
        server.manifests["acme/echo"][digest] = (media.INDEX, index)
        yield Published(server, layout, manifest, digest, key)


@dataclass(frozen=True)
class Surveyor:
    settings: Settings
    engine: Engine
    root: Path

    def survey(self, image: str) -> BuildResult:
        folder = self.root / "echo"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.yaml").write_text(ENTRY.format(image=image))
        return build_all(self.settings, self.engine, [load_entry(folder)], root=self.root)["echo"]

    def verifier(self, trust: TrustPolicy | None = None) -> Verifier:
        policy = trust or TrustPolicy.load(self.settings)
        return Verifier(OciLayout(self.settings.oci_dir), self.engine, policy, PolicySet.builtin())


@pytest.fixture
def surveyor(tidy_engine: Engine, settings: Settings, tmp_path: Path) -> Surveyor:
    return Surveyor(settings, tidy_engine, tmp_path / "servers")


@pytest.mark.parametrize("by", ["manifest", "index"])
def test_a_publishers_image_is_pulled_looked_into_and_may_run(
    surveyor: Surveyor, published: Published, by: str
) -> None:
    result = surveyor.survey(published.ref(getattr(published, by)))

    assert result.error is None, result.error
    assert result.manifest == published.manifest
    assert result.version == "1.0"
    entry = load_entry(surveyor.root / "echo")
    evidence = surveyor.verifier().verify(target_of_entry(entry), deep=True)
    assert evidence.signature is None, "we are not its publisher"
    assert evidence.provenance is None
    assert evidence.sbom is not None
    assert MARK in evidence.sbom.predicate["metadata"]["properties"], "its reader sees whose work the SBOM is"
    assert [t["name"] for t in evidence.listing.predicate["tools"]] if evidence.listing else []
    assert "pin" in [link.name for link in evidence.links]
    line = locked_server(entry, evidence, profile_digest="sha256:" + "0" * 64, enabled=True)
    assert line.tier == "community"
    assert "nobody" in line.signer


def test_what_was_looked_into_is_not_looked_into_again(surveyor: Surveyor, published: Published) -> None:
    first = surveyor.survey(published.ref())
    asked = len(published.server.requests)

    again = surveyor.survey(published.ref())

    assert (first.fresh, again.fresh) == (True, False)
    assert len(published.server.requests) == asked, "nothing is pulled twice"


def test_an_image_that_the_pin_does_not_name_is_refused(surveyor: Surveyor, published: Published) -> None:
    surveyor.survey(published.ref())
    entry = parse_entry(
        surveyor.root / "echo/server.yaml", ENTRY.format(image=published.ref("sha256:" + "7" * 64)).encode()
    )

    with pytest.raises(PinDiffers) as refused:
        surveyor.verifier().verify(target_of_entry(entry))

    assert refused.value.code == "pin.differs"


def test_a_registry_that_answers_with_another_image_is_refused(surveyor: Surveyor, published: Published) -> None:
    wanted = "sha256:" + "7" * 64
    published.server.manifests["acme/echo"][wanted] = published.server.manifests["acme/echo"][published.manifest]

    result = surveyor.survey(published.ref(wanted))

    assert result.error is not None
    assert result.error.code == "remote.lied"


def test_a_publishers_signature_counts_once_the_trust_policy_names_them(
    surveyor: Surveyor, published: Published, tmp_path: Path
) -> None:
    bundle = sign_statement(statement("echo", published.manifest, SIGNATURE, {}), published.key)
    published.layout.add_referrer(published.manifest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: SIGNATURE})
    Remote().push(published.layout, published.manifest, f"{published.server.host}/acme/echo:1.0")
    assert surveyor.survey(published.ref()).error is None
    target = target_of_entry(load_entry(surveyor.root / "echo"))
    assert surveyor.verifier().verify(target).signature is None, "nobody said who the publisher is"

    evidence = surveyor.verifier(_trust(surveyor, published.key)).verify(target)

    assert evidence.signature is not None
    assert evidence.signature.key_id == published.key.verifying.key_id
    with pytest.raises(UntrustedKey):
        surveyor.verifier(_trust(surveyor, SigningKey.generate())).verify(target)


def test_without_an_sbom_or_a_rule_nothing_of_a_publisher_runs(surveyor: Surveyor, published: Published) -> None:
    surveyor.survey(published.ref())
    target, layout = target_of_entry(load_entry(surveyor.root / "echo")), OciLayout(surveyor.settings.oci_dir)

    with pytest.raises(TrustEmpty):
        surveyor.verifier(TrustPolicy.of((), "nobody")).verify(target)

    for paper in layout.referrers(published.manifest, media.SIGSTORE_BUNDLE):
        if paper.annotations[media.PREDICATE_TYPE_ANNOTATION] == SBOM:
            layout.remove_referrer(paper.digest)
    with pytest.raises(AdmissionDenied) as refused:
        surveyor.verifier().verify(target)
    assert "community.sbom-required" in refused.value.details["policies"]


def test_only_what_we_may_say_of_a_publishers_image_is_attached(surveyor: Surveyor, published: Published) -> None:
    surveyor.survey(published.ref())

    layout = OciLayout(surveyor.settings.oci_dir)
    kinds = {
        d.annotations[media.PREDICATE_TYPE_ANNOTATION]
        for d in layout.referrers(published.manifest, media.SIGSTORE_BUNDLE)
    }
    assert kinds == {SBOM, LISTING}
    assert PROVENANCE not in kinds


def test_moving_to_tier_built_asks_for_what_that_tier_has() -> None:
    text = ENTRY.format(image="127.0.0.1:5000/acme/echo:1.0@sha256:" + "7" * 64)

    with pytest.raises(EntryInvalid, match="source"):
        parse_entry(Path("echo/server.yaml"), text.replace("tier: community", "tier: built").encode())


def test_a_remote_server_has_nothing_to_look_into(surveyor: Surveyor) -> None:
    folder = surveyor.root / "echo"
    folder.mkdir(parents=True)
    head = ENTRY.partition("image:")[0].format(image="").replace("type: server", "type: remote")
    (folder / "server.yaml").write_text(head + "remote: {url: https://mcp.example.com/mcp}\n")

    result = build_all(surveyor.settings, surveyor.engine, [load_entry(folder)], root=surveyor.root)["echo"]

    assert isinstance(result.error, EntryUnbuildable)


def _trust(surveyor: Surveyor, publisher: SigningKey) -> TrustPolicy:
    local = SigningKey.load_or_create(surveyor.settings.keys_dir).verifying
    surveyor.settings.home.mkdir(parents=True, exist_ok=True)
    path = surveyor.settings.home / "trust.yaml"
    (path.parent / "acme.pub").write_text(publisher.verifying.pem)
    text = "version: 1\nrules:\n- {name: acme, tier: community, servers: [echo], keys: [{file: acme.pub}, {local: true}]}\n"
    return TrustPolicy.parse(text, path=path, local=local)


def test_a_check_tries_the_image_and_says_what_it_does_not_do(surveyor: Surveyor, published: Published) -> None:
    surveyor.survey(published.ref())
    file = surveyor.root / "echo" / "server.yaml"
    file.write_text(file.read_text().replace("contains: ahoy", "contains: avast") + "tools: [{name: sing}]\n")

    report = Checker(surveyor.settings, surveyor.engine, Profile.load()).check(file.parent)

    words = {(v.check, v.word): v.detail for v in report.verdicts}
    assert ("build", "pass") in words
    assert ("admission", "pass") in words
    assert "sing" in words["tools", "fail"]
    assert "avast" in words["calls", "fail"]
    assert ("source", "pass") in words


def test_a_proposal_is_looked_into_and_leaves_what_is_there_alone(
    surveyor: Surveyor, published: Published, engine: Engine
) -> None:
    before = surveyor.survey(published.ref())
    newer = import_engine_image(
        engine.client, build_image(engine, "hm-test-echo", ECHO_SOURCE, User="1000"), published.layout
    )
    Remote().push(published.layout, newer, f"{published.server.host}/acme/echo:1.0")

    proposal = propose(surveyor.settings, surveyor.root / "echo", surveyor.engine)

    assert newer in proposal.files["server.yaml"].decode()
    assert proposal.changes == {"What it may touch": [], "Tools": [], "Packages": []}
    assert BuildRecords(surveyor.settings.home).all()["echo"].manifest == before.manifest
    assert surveyor.survey(published.ref()).fresh is False
