"""What tests take from a home that may be serving meanwhile."""

from pathlib import Path

import pytest

from tests.fixtures.lent import lend


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    home = tmp_path / "serving"
    for name in (
        "bases.json",
        "harbour.db",
        "harbour.db-wal",
        "audit/head.json",
        "run/harbour.json",
        "secrets/tokens.json",
        "keys/signing.key",
        "keys/secrets.key",
        "oci/index.json",
        "oci/index.lock",
        "oci/ingest/in-half",
        "oci/blobs/sha256/aa",
        "oci/blobs/sha256/.aa.tmp",
        "models/index.json",
        "models/blobs/sha256/bb",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    return home


def files(home: Path) -> set[str]:
    return {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}


BUILT = {"bases.json", "keys/signing.key", "oci/index.json", "oci/blobs/sha256/aa"}


def test_images_and_the_key_that_signed_them_are_lent_and_nothing_that_is_in_use_or_secret(
    serving: Path, tmp_path: Path
) -> None:
    lend(serving, tmp_path / "one")
    assert files(tmp_path / "one") == BUILT
    lend(tmp_path / "one", tmp_path / "two", linked=True)
    assert files(tmp_path / "two") == BUILT
    lend(serving, tmp_path / "three", models=True)
    assert files(tmp_path / "three") == BUILT | {"models/index.json", "models/blobs/sha256/bb"}


def test_nothing_of_the_home_that_lends_changes(serving: Path, tmp_path: Path) -> None:
    blob = serving / "oci/blobs/sha256/aa"
    before = blob.stat()
    lend(serving, tmp_path / "mine")
    with (tmp_path / "mine" / "oci/blobs/sha256/aa").open("r+b") as own:
        own.write(b"X")
    assert blob.read_text() == "oci/blobs/sha256/aa"
    after = blob.stat()
    assert (before.st_ctime_ns, before.st_nlink) == (after.st_ctime_ns, after.st_nlink)
