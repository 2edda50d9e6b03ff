"""SBOMs are read from the image's own layers, as an engine would lay them over each other."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tinyimages import Layer, flip_byte, put_image, tree

from harbourmaster.core.digests import DigestMismatch
from registry.errors import FilesystemInvalid, TooLarge
from registry.oci import OciLayout
from registry.sbom import overlay, sbom_bytes, sbom_of
from registry.sbom.copyright import spdx_of
from registry.sbom.overlay import filesystem_of

OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
STATUS = b"""Package: libzstd1
Status: install ok installed
Maintainer: Some Team <team@example.org>
Architecture: amd64
Source: libzstd (1.5.4+dfsg2-5)
Version: 1.5.4+dfsg2-5
Depends: libc6 (>= 2.34)
Description: fast lossless compression algorithm
 more words

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Description: GNU C Library

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: BSD-3-clause and GPL-2+

License: Expat
 text
"""
ELF = b"\x7fELF" + b"\0" * 200


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


def sbom(layout: OciLayout, *layers: Layer | bytes, **more: Any) -> dict[str, Any]:
    body = sbom_of(layout, put_image(layout, *layers), **more)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(body)) is None
    return body


def component(body: dict[str, Any], purl: str) -> dict[str, Any]:
    (found,) = [c for c in body["components"] if c.get("purl") == purl]
    return found


def properties(c: dict[str, Any]) -> dict[str, str]:
    return {p["name"].removeprefix("harbourmaster:"): p["value"] for p in c["properties"]}


def needs(body: dict[str, Any], ref: str) -> list[str]:
    (entry,) = [d for d in body["dependencies"] if d["ref"] == ref]
    return entry.get("dependsOn", [])


def names(body: dict[str, Any]) -> list[str]:
    return [c.get("purl") or c["bom-ref"] for c in body["components"]]


def debian(*more: tuple[str, bytes | str | None]) -> Layer:
    return Layer(
        [
            ("lib", "usr/lib"),
            ("etc/os-release", "../usr/lib/os-release"),
            ("usr/lib/os-release", OS_RELEASE),
            ("usr/lib/libzstd.so.1.5.4", ELF + b"zstd"),
            ("usr/lib/libzstd.so.1", "libzstd.so.1.5.4"),
            ("usr/share/doc/libzstd1/copyright", COPYRIGHT),
            ("var/lib/dpkg/status", STATUS),
            ("var/lib/dpkg/info/libzstd1:amd64.list", b"/.\n/lib\n/lib/libzstd.so.1.5.4\n/lib/libzstd.so.1\n"),
            *more,
        ]
    )


def test_debian_packages_have_purl_source_licences_files_and_dependencies(layout: OciLayout) -> None:
    body = sbom(layout, debian())
    zstd = component(body, "pkg:deb/debian/libzstd1@1.5.4%2Bdfsg2-5?arch=amd64&distro=debian-12")
    path = "usr/lib/libzstd.so.1.5.4"  # listed through the link /lib
    line = f"{hashlib.sha256(ELF + b'zstd').hexdigest()}  {path}\n"
    assert zstd["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(line.encode()).hexdigest()}]
    assert zstd["licenses"] == [{"expression": "(BSD-3-Clause AND GPL-2.0-or-later) AND MIT"}]
    assert (properties(zstd)["deb.source"], properties(zstd)["deb.source.version"]) == ("libzstd", "1.5.4+dfsg2-5")
    assert zstd["supplier"]["name"] == "Some Team <team@example.org>"
    libc = "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"
    assert needs(body, zstd["bom-ref"]) == [libc]
    assert not [n for n in names(body) if "removed" in n]
    assert "os:debian-12" in names(body)


def test_the_image_itself_is_the_subject_with_its_manifest_digest(layout: OciLayout) -> None:
    digest = put_image(layout, debian())
    image = sbom_of(layout, digest)["metadata"]["component"]
    assert (image["version"], image["type"], image["hashes"][0]["content"]) == (digest, "container", digest[7:])
    assert properties(image)["layer.0"] == layout.read_manifest(digest).layers[0].digest


def test_the_same_image_gives_the_same_bytes_and_no_time_unless_given(layout: OciLayout) -> None:
    digest = put_image(layout, debian())
    first = sbom_of(layout, digest)
    assert sbom_bytes(first) == sbom_bytes(sbom_of(layout, digest))
    assert "timestamp" not in first["metadata"]
    timed = sbom_of(layout, digest, timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    assert timed["metadata"]["timestamp"].startswith("2026-01-02")
    assert timed["serialNumber"] == first["serialNumber"]


SITE = "app/lib/python3.13/site-packages"


def wheel(name: str, version: str, extra: str, *more: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    info = f"{SITE}/{name.replace('-', '_')}-{version}.dist-info"
    rows = [(p, "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(b).digest()).decode().rstrip("=")) for p, b in more]
    record = "".join(f"{p},{h},1\n" for p, h in rows).encode()
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{extra}\n\nlong text".encode()
    return [(f"{info}/METADATA", metadata), (f"{info}/RECORD", record), *((f"{SITE}/{p}", b) for p, b in more)]


def test_python_distributions_have_normalized_purls_licences_and_dependencies(layout: OciLayout) -> None:
    one = wheel(
        "Some.Pkg", "1.0", "License-Expression: MIT OR Apache-2.0\nRequires-Dist: Other_Pkg>=1; python_version>'3'\n"
        "Requires-Dist: nose; extra == 'test'", ("some/__init__.py", b"x"),
    )  # fmt: skip
    two = wheel("other-pkg", "2", "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License")
    body = sbom(layout, Layer([*one, *two]))
    some = component(body, "pkg:pypi/some-pkg@1.0")
    assert some["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert component(body, "pkg:pypi/other-pkg@2")["licenses"] == [{"license": {"id": "MIT"}}]
    assert needs(body, some["bom-ref"]) == ["pkg:pypi/other-pkg@2"]
    assert not [name for name in properties(some) if name.startswith("pypi.record")]


def test_python_files_changed_or_removed_after_installation_are_noted(layout: OciLayout) -> None:
    layer = Layer([*wheel("a", "1", "License: BSD", ("a.py", b"x"), ("b.py", b"y"), ("c.py", b"z"))])
    body = sbom(layout, layer, tree({f"{SITE}/a.py": b"changed", f"{SITE}/.wh.c.py": b""}))
    noted = properties(component(body, "pkg:pypi/a@1"))
    assert noted["pypi.record.changed"].startswith("1 of 3 files")
    assert noted["pypi.record.missing"].startswith("1 of 3 recorded files")


def test_npm_packages_have_scoped_purls_integrity_and_the_dependency_that_node_would_load(layout: OciLayout) -> None:
    integrity = "sha512-" + base64.b64encode(b"\x01" * 64).decode()
    lock = {"packages": {"node_modules/@scope/a": {"integrity": integrity}, "node_modules/b": {}}}
    contents: dict[str, bytes | str | None] = {
        "app/node_modules/.package-lock.json": json.dumps(lock).encode(),
        "app/node_modules/@scope/a/package.json": json.dumps(
            {"name": "@scope/a", "version": "1.0.0", "license": "MIT", "dependencies": {"b": "^2"}}
        ).encode(),
        "app/node_modules/@scope/a/index.js": b"module.exports = 1",
        "app/node_modules/@scope/a/node_modules/b/package.json": b'{"name":"b","version":"2.0.0","license":{"type":"ISC"}}',
        "app/node_modules/b/package.json": b'{"name":"b","version":"1.0.0","licenses":["MIT","Custom"]}',
        "app/node_modules/b/lib/package.json": b'{"type":"module"}',
        "app/node_modules/broken/package.json": b"{",
    }
    body = sbom(layout, tree(contents))
    a = component(body, "pkg:npm/%40scope/a@1.0.0")
    assert (a["group"], a["name"]) == ("@scope", "a")
    assert {"alg": "SHA-512", "content": "01" * 64} in a["hashes"]
    assert properties(a)["files"] == "2", "the nested package's files are not its own"
    assert needs(body, a["bom-ref"]) == ["pkg:npm/b@2.0.0"]
    assert component(body, "pkg:npm/b@1.0.0")["licenses"] == [
        {"license": {"id": "MIT"}},
        {"license": {"name": "Custom"}},
    ]
    assert len([n for n in names(body) if "npm" in n]) == 3


def test_one_package_in_two_places_is_two_components_with_distinct_references(layout: OciLayout) -> None:
    text = b'{"name":"b","version":"1.0.0"}'
    body = sbom(layout, tree({"a/node_modules/b/package.json": text, "c/node_modules/b/package.json": text}))
    refs = [c["bom-ref"] for c in body["components"]]
    assert refs == ["pkg:npm/b@1.0.0#a/node_modules/b/package.json", "pkg:npm/b@1.0.0#c/node_modules/b/package.json"]


def test_alpine_packages_are_read_with_origin_and_dependencies(layout: OciLayout) -> None:
    installed = (
        b"C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl.so.1\n\n"
        b"P:zlib\nV:1.3.1-r1\nA:x86_64\nL:Zlib\nD:so:libc.musl-x86_64.so.1 !bad\n\n"
    )
    release = b"ID=alpine\nVERSION_ID=3.20.3\n"
    body = sbom(layout, tree({"lib/apk/db/installed": installed, "etc/os-release": release, "lib/ld-musl.so.1": ELF}))
    zlib = component(body, "pkg:apk/alpine/zlib@1.3.1-r1?arch=x86_64&distro=alpine-3.20.3")
    musl = "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.3"
    assert needs(body, zlib["bom-ref"]) == [musl]
    assert zlib["licenses"] == [{"license": {"id": "Zlib"}}]
    assert component(body, musl)["hashes"]


def go_binary(modules: str) -> bytes:
    def string(value: bytes) -> bytes:
        assert len(value) < 1 << 14
        return bytes([len(value) & 0x7F | 0x80, len(value) >> 7]) + value

    text = b"\x30" * 16 + modules.encode() + b"\n" + b"\x31" * 16
    header = b"\xff Go buildinf:" + b"\x08\x02" + bytes(16)
    return ELF + b"\0" * 5000 + header + string(b"go1.24.1") + string(text) + bytes(100)


def test_go_binaries_name_the_modules_they_were_built_from(layout: OciLayout) -> None:
    info = "path\tx\nmod\tgithub.com/Some/server\tv1.2.3\th1:a\ndep\tgolang.org/x/net\tv0.30.0\th1:b\ndep\ta.b/c\tv1.0.0\n=>\ta.b/d\tv1.1.0\th1:c"
    body = sbom(layout, tree({"server": go_binary(info)}))
    server = component(body, "pkg:golang/github.com/some/server@v1.2.3")
    assert set(needs(body, server["bom-ref"])) == {
        "pkg:golang/stdlib@1.24.1", "pkg:golang/golang.org/x/net@v0.30.0", "pkg:golang/a.b/d@v1.1.0",
    }  # fmt: skip
    assert "file:/server" not in names(body), "the binary belongs to its module"


def test_interpreters_that_no_package_owns_are_components_and_loose_binaries_are_files(layout: OciLayout) -> None:
    body = sbom(
        layout,
        tree(
            {
                "usr/local/bin/python3.13": ELF,
                "usr/local/include/python3.13/patchlevel.h": b'#define PY_VERSION      "3.13.9"\n',
                "usr/local/lib/python3.13/lib-dynload/_ssl.so": ELF,
                "usr/local/bin/node": ELF + b"https://nodejs.org/download/release/v22.21.1/node-v22.21.1.tar.gz",
                "opt/mystery": ELF,
            }
        ),
    )
    assert component(body, "pkg:generic/python@3.13.9")["licenses"] == [{"license": {"id": "PSF-2.0"}}]
    assert component(body, "pkg:generic/node@22.21.1")["type"] == "platform"
    assert "file:/opt/mystery" in names(body)
    assert "file:/usr/local/lib/python3.13/lib-dynload/_ssl.so" not in names(body)


# -- layers over each other


def paths(layout: OciLayout, *layers: Layer) -> dict[str, int]:
    manifest = layout.read_manifest(put_image(layout, *layers))
    return {path: node.layer for path, node in filesystem_of(layout, manifest).files()}


def test_whiteouts_hide_what_lower_layers_brought_and_nothing_of_their_own(layout: OciLayout) -> None:
    lower = tree({"a/x": b"1", "a/y": b"1", "b/x": b"1", "c": b"1", "d/x/y": b"1"})
    upper = tree({"a/.wh.x": b"", "b/new": b"2", "b/.wh..wh..opq": b"", ".wh.c": b"", ".wh.d": b"", "d/x/z": b"2"})
    assert paths(layout, lower, upper) == {"a/y": 0, "b/new": 1, "d/x/z": 1}


def test_types_replace_each_other_and_directories_merge(layout: OciLayout) -> None:
    lower = tree({"a": b"1", "d/one": b"1", "link": "d", "e/f": b"1"})
    upper = tree({"a/b": b"2", "d": None, "d/two": b"2", "link/three": b"2", "e": b"2"})
    assert paths(layout, lower, upper) == {"a/b": 1, "d/one": 0, "d/two": 1, "link/three": 1, "e": 1}


def test_hard_links_are_their_targets_and_links_are_followed_inside_only(layout: OciLayout) -> None:
    layer = Layer([("./usr/bin/real", b"x"), ("abs", "/usr/bin/real"), ("up", "../../../usr/bin/real"),
                   ("loop", "loop2"), ("loop2", "loop")], {"usr/bin/hard": "usr/bin/real"})  # fmt: skip
    fs = filesystem_of(layout, layout.read_manifest(put_image(layout, layer)))
    real = fs.find("usr/bin/real")
    assert real
    assert fs.find("abs") is fs.find("up") is real
    hard = fs.find("usr/bin/hard")
    assert hard
    assert hard.sha256 == real.sha256
    assert fs.find("loop") is None


@pytest.mark.parametrize(
    "layer",
    [
        Layer([("../escape", b"x")]),
        Layer([("a/../../escape", b"x")]),
        Layer([("a", b"x")], {"b": "missing"}),
        Layer([("/".join("d" * 300), b"x")]),
        b"this is no tar" * 100,
        Layer([("a", b"x" * 5000)]).tar()[:3000],
    ],
    ids=["parent", "parent inside", "hard link to nothing", "too deep", "no tar", "cut short"],
)
def test_hostile_layers_are_refused(layout: OciLayout, layer: Layer | bytes) -> None:
    with pytest.raises(FilesystemInvalid):
        sbom_of(layout, put_image(layout, layer))


def test_a_layer_whose_bytes_changed_gets_no_sbom(layout: OciLayout) -> None:
    digest = put_image(layout, debian())
    flip_byte(layout.blob_path(layout.read_manifest(digest).layers[0].digest), -30)
    with pytest.raises(DigestMismatch):
        sbom_of(layout, digest)


def test_limits_stop_images_that_would_fill_memory(layout: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put_image(layout, debian())
    monkeypatch.setattr(overlay, "MAX_KEPT_FILE", 10)
    with pytest.raises(TooLarge):
        sbom_of(layout, digest)
    monkeypatch.setattr(overlay, "MAX_ENTRIES", 3)
    with pytest.raises(TooLarge):
        sbom_of(layout, digest)


@pytest.mark.parametrize(
    ("found", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("Expat", "MIT"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("BSD-3-clause and GPL-2", "BSD-3-Clause AND GPL-2.0-only"),
        ("public-domain", "public-domain"),
    ],
)
def test_debians_short_licence_names_become_spdx_where_there_is_a_name(found: str, spdx: str) -> None:
    assert spdx_of(found) == spdx
