"""``hm verify`` and ``hm evidence`` as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ociserver import OciServer
from papered import Harbour, harbour
from tinyimages import flip_byte

from registry.errors import ImageNotFound
from registry.oci import OciLayout
from registry.oci.remote import Remote


@pytest.fixture
def place(home: Path) -> Harbour:
    return harbour(home)


def hm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harbourmaster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)


def test_verify_prints_each_link_with_digest_and_rule(place: Harbour) -> None:
    digest = place.papered()
    done = hm("verify", "tiny:1", "--no-engine", "--deep", "--offline")
    assert done.returncode == 0, done.stderr
    manifest = place.layout.read_manifest(digest)
    for text in (
        digest,
        *(b.digest for b in manifest.blobs),
        place.key.key_id,
        "trust rule 'local builds'",
        "built.admit",
    ):
        assert text in done.stdout
    assert done.stdout.count("✔ verified") == 10


def test_verify_as_json_is_one_object_with_every_link(place: Harbour) -> None:
    digest = place.papered()
    done = hm("verify", digest, "--no-engine", "--json")
    body = json.loads(done.stdout)
    assert (body["verified"], body["image"]) == (True, digest)
    assert {link["name"] for link in body["links"]} >= {
        "manifest",
        "config",
        "layer 1",
        "signature",
        "SBOM",
        "admission",
    }
    assert all(set(link) == {"name", "subject", "checked", "digest", "by"} for link in body["links"])


def test_a_refusal_shows_the_links_that_held_and_ends_with_status_1_and_the_code(place: Harbour) -> None:
    flip_byte(place.layer_path(place.papered()))
    done = hm("verify", "tiny:1", "--no-engine")
    assert done.returncode == 1
    assert "✔ verified  config" in done.stdout
    assert "signature" not in done.stdout
    assert "error [digest.mismatch]" in done.stderr
    refused = hm("verify", "tiny:1", "--no-engine", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert json.loads(refused.stderr)["error"]["code"] == "digest.mismatch"


def test_offline_fetches_nothing(place: Harbour) -> None:
    done = hm("verify", "127.0.0.1:1/team/tiny:1", "--no-engine", "--offline")
    assert done.returncode == 1
    assert "[offline]" in done.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"version": 1, "servers": {"time": {"image": "sha256:00"}}}', "image.moved"),
        ('{"version": 1, "servers": {"time": {}}}', "config.invalid"),
        ("{", "config.invalid"),
    ],
)
def test_a_lock_that_names_another_image_or_cannot_be_read_refuses(place: Harbour, text: str, code: str) -> None:
    from registry.target import target_of

    place.papered(tag=target_of(place.settings, "time").ref)
    place.settings.lock_file.write_text(text)
    done = hm("verify", "time", "--no-engine")
    assert done.returncode == 1
    assert f"[{code}]" in done.stderr


@pytest.mark.engine
def test_verify_asks_the_engine_for_this_very_image(place: Harbour) -> None:
    place.papered()
    done = hm("verify", "tiny:1")
    assert done.returncode == 1
    assert "[image.not_in_engine]" in done.stderr


def test_evidence_is_shown_as_rows_and_as_json(place: Harbour) -> None:
    digest = place.papered()
    shown = hm("evidence", "show", "tiny:1")
    assert shown.returncode == 0, shown.stderr
    for text in (digest, place.key.key_id, "CycloneDX 1.6", "admitted by"):
        assert text in shown.stdout
    body = json.loads(hm("evidence", "show", "tiny:1", "--json").stdout)
    assert body["predicates"]["sbom"]["bomFormat"] == "CycloneDX"


def test_an_export_is_verified_where_nothing_else_is(
    place: Harbour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = place.papered()
    out = tmp_path / "export"
    done = hm("evidence", "export", "tiny:1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert {p.name for p in out.iterdir()} == {
        "oci", "bundles", "keys", "evidence.json", "evidence.intoto.json", "sbom.cdx.json", "provenance.json",
        "listing.json", "README.txt",
    }  # fmt: skip
    (key,) = (out / "keys").iterdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "trust.yaml").write_text(
        f"version: 1\nrules: [{{name: theirs, tier: built, servers: ['*'], keys: [{{file: '{key}'}}]}}]\n"
    )
    monkeypatch.setenv("HM_HOME", str(elsewhere))
    checked = hm("verify", digest, "--layout", str(out), "--offline", "--deep")
    assert checked.returncode == 0, checked.stderr
    assert "trust rule 'theirs'" in checked.stdout
    with pytest.raises(ImageNotFound):
        OciLayout(elsewhere / "oci").resolve(digest)


def test_an_export_does_not_write_over_anything(place: Harbour, tmp_path: Path) -> None:
    place.papered()
    (tmp_path / "mine").write_text("precious")
    done = hm("evidence", "export", "tiny:1", "-o", str(tmp_path))
    assert done.returncode == 2
    assert (tmp_path / "mine").read_text() == "precious"


def test_an_image_in_a_registry_is_pulled_with_its_papers_and_verified(place: Harbour) -> None:
    source = OciLayout(place.settings.home / "source")
    here, place.layout = place.layout, source
    digest = place.papered()
    with OciServer() as server:
        ref = f"{server.host}/team/tiny:1"
        Remote().push(source, digest, ref)
        done = hm("verify", ref, "--no-engine")
        assert done.returncode == 0, done.stderr
        assert digest in done.stdout
        assert here.resolve(ref) == digest
