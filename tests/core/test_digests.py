import pytest

from harbourmaster.core.canonical import canonical
from harbourmaster.core.digests import DigestMismatch, expect, hex_of, is_digest, sha256
from harbourmaster.core.errors import UsageError

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4 test vector


def test_digests_are_written_as_oci_writes_them() -> None:
    assert sha256(b"") == EMPTY
    assert is_digest(EMPTY)
    assert not is_digest(EMPTY.upper())
    assert not is_digest(EMPTY + "0")


@pytest.mark.parametrize("text", ["sha256:../../etc/passwd", "sha512:" + "0" * 64, "", EMPTY + "\n"])
def test_only_a_digest_can_become_a_file_name(text: str) -> None:
    with pytest.raises(UsageError):
        hex_of(text)


def test_a_mismatch_names_both_digests() -> None:
    with pytest.raises(DigestMismatch) as caught:
        expect(EMPTY, sha256(b"x"), "layer 1")
    assert EMPTY in caught.value.message
    assert sha256(b"x") in caught.value.message
    assert "layer 1" in caught.value.message


def test_canonical_json_does_not_depend_on_key_order_or_spelling_of_numbers() -> None:
    assert canonical({"b": 1.0, "a": "é"}) == canonical({"a": "\u00e9", "b": 1}) == '{"a":"é","b":1}'.encode()
