"""Layers are deterministic and hold nothing that could hurt."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

import pytest

from registry.build.errors import LayerRefused
from registry.build.tarball import SOURCE_DATE_EPOCH, Rules, normalise, tar_of, under


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], fmt: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as out:
        for info, data in members:
            out.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def layer(members: Iterable[tuple[tarfile.TarInfo, bytes]], rules: Rules | None = None) -> bytes:
    sink = io.BytesIO()
    normalise(tar(members), sink, rules)
    return sink.getvalue()


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return {m.name: m for m in found}


def test_order_times_owners_and_format_of_the_source_leave_no_trace() -> None:
    one = [
        member("a/b", b"1", mtime=5, uid=1000, uname="me", mode=0o664),
        member("a", type=tarfile.DIRTYPE, mode=0o700),
    ]
    two = [member("./a", type=tarfile.DIRTYPE, mode=0o775), member("./a/b", b"1", mtime=9, gid=7, mode=0o600)]

    assert layer(one) == layer(two)
    assert {m.mtime for m in read(layer(one)).values()} == {SOURCE_DATE_EPOCH}


def test_the_executable_bit_survives_and_set_id_bits_do_not() -> None:
    found = read(layer([member("bin/su", b"x", mode=0o4755), member("etc/x", b"y", mode=0o2640)]))

    assert found["bin/su"].mode == 0o755
    assert found["etc/x"].mode == 0o644


def test_a_distributions_files_keep_owner_and_mode_less_the_set_id_bits() -> None:
    source = [
        member("etc/shadow", b"", mode=0o640, gid=42),
        member("bin/su", b"", mode=0o4755),
        member("tmp", type=tarfile.DIRTYPE, mode=0o1777),
    ]

    found = read(layer(source, Rules(owners=True)))

    assert (found["etc/shadow"].mode, found["etc/shadow"].gid) == (0o640, 42)
    assert found["bin/su"].mode == 0o755
    assert found["tmp"].mode == 0o1777


def test_hard_links_keep_their_bytes_wherever_they_sort() -> None:
    target = member("z/original", b"content", mode=0o755)
    link = member("a/link", type=tarfile.LNKTYPE, linkname="z/original")

    data = layer([target, link])

    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert found.extractfile("a/link").read() == b"content"  # type: ignore[union-attr]
        assert found.getmember("z/original").linkname == "a/link"


def test_symbolic_links_are_kept_as_they_are() -> None:
    found = read(layer([member("a", type=tarfile.SYMTYPE, linkname="../../etc/passwd")]))

    assert found["a"].linkname == "../../etc/passwd"  # a link inside an image is resolved inside it


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(kind: bytes) -> None:
    with pytest.raises(LayerRefused, match="device"):
        layer([member("dev/sda", type=kind)])


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b"])
def test_names_that_leave_the_root_are_refused(name: str) -> None:
    with pytest.raises(LayerRefused, match="leaves"):
        layer([member(name, b"x")])


def test_a_hard_link_to_what_the_layer_lacks_is_refused() -> None:
    with pytest.raises(LayerRefused, match="hard link"):
        layer([member("a", type=tarfile.LNKTYPE, linkname="missing")])


@pytest.mark.parametrize("data", [b"garbage" * 200, tar_of({"a": b"x" * 5000})[:2000]])
def test_what_is_not_a_whole_tar_is_refused(data: bytes) -> None:
    with pytest.raises(LayerRefused):
        normalise(io.BytesIO(data), io.BytesIO())


def test_only_what_is_asked_for_is_taken() -> None:
    source = [
        member("opt/server/x", b"1"),
        member("opt/other", b"2"),
        member("etc/hosts", b"theirs"),
        member("opt", type=tarfile.DIRTYPE),
    ]

    data = layer(source, Rules(keep=under(["opt/server"])))

    assert list(read(data)) == ["opt", "opt/server/x"]


@pytest.mark.parametrize("links", [[("a", "a")], [("a", "b"), ("b", "a")]])
def test_hard_links_in_a_circle_are_refused(links: list[tuple[str, str]]) -> None:
    with pytest.raises(LayerRefused):
        layer([member(name, type=tarfile.LNKTYPE, linkname=target) for name, target in links])


def test_long_and_non_ascii_names_survive_without_pax_headers() -> None:
    name = "opt/" + "d" * 120 + "/" + "f" * 120 + "-ß"

    data = layer([member(name, b"x")])

    assert list(read(data)) == [name]
    assert b"PaxHeader" not in data
