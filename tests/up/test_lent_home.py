"""What tests take from a home that may be serving meanwhile."""

from pathlib import Path

import pytest

from tests.fixtures.lent import lend


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    monkeypatch.setenv("HM_TEST_HOME", str(home))
    return home


def files(home: Path) -> set[str]:
    return {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}


BUILT = {"bases.json", "keys/signing.key", "oci/index.json", "oci/blobs/sha256/aa"}


def test_images_and_the_key_that_signed_them_are_lent_and_nothing_that_is_in_use_or_secret(
    serving: Path, tmp_path: Path
) -> None:
    assert lend(tmp_path / "one")
    assert files(tmp_path / "one") == BUILT
    assert lend(tmp_path / "two", models=True)
    assert files(tmp_path / "two") == BUILT | {"models/index.json", "models/blobs/sha256/bb"}


def test_a_test_that_flips_a_byte_flips_its_own(serving: Path, tmp_path: Path) -> None:
    assert lend(tmp_path / "mine", writable=True)
    with (tmp_path / "mine" / "oci/blobs/sha256/aa").open("r+b") as blob:
        blob.write(b"X")
    assert (serving / "oci/blobs/sha256/aa").read_text() == "oci/blobs/sha256/aa"


def test_where_no_home_is_named_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HM_TEST_HOME", raising=False)
    assert not lend(tmp_path / "none")
    assert not (tmp_path / "none").exists()
