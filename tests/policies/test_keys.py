"""The signing key is made once, is private, and is refused when it may not have stayed so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from policies.errors import KeyFileError
from policies.keys import KEY_FILE, PUBLIC_FILE, SigningKey, VerifyingKey


def test_a_key_is_made_on_first_use_and_is_the_same_afterwards(tmp_path: Path) -> None:
    first = SigningKey.load_or_create(tmp_path / "keys")
    assert SigningKey.load_or_create(tmp_path / "keys").key_id == first.key_id
    assert first.key_id.startswith("sha256:")
    published = VerifyingKey.from_pem((tmp_path / "keys" / PUBLIC_FILE).read_bytes())
    assert published.key_id == first.key_id


def test_reading_makes_no_key(tmp_path: Path) -> None:
    assert SigningKey.load(tmp_path / "keys") is None
    assert not (tmp_path / "keys").exists()


def test_file_and_directory_are_private_whatever_the_umask(tmp_path: Path) -> None:
    code = "import os,sys,pathlib; os.umask(0); from policies.keys import SigningKey; \
SigningKey.load_or_create(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "keys")], check=True)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    code = "import sys,pathlib; from policies.keys import SigningKey; sys.stdin.read(1); \
print(SigningKey.load_or_create(pathlib.Path(sys.argv[1])).key_id)"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "keys")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"x")
        worker.stdin.flush()
    ids = {worker.communicate()[0] for worker in workers}
    assert len(ids) == 1
    assert ids != {b""}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    SigningKey.load_or_create(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(KeyFileError, match="others may read") as refused:
        SigningKey.load_or_create(tmp_path)
    assert refused.value.code == "key.invalid"
    assert "chmod 600" in refused.value.remedy


def test_a_key_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path / "real")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / KEY_FILE).symlink_to(tmp_path / "real" / KEY_FILE)
    with pytest.raises(KeyFileError):
        SigningKey.load_or_create(tmp_path / "keys")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path)
    os.chown(tmp_path / KEY_FILE, 12345, 12345)
    with pytest.raises(KeyFileError, match="another user"):
        SigningKey.load_or_create(tmp_path)


def other_private_keys() -> dict[str, bytes]:
    keys = {
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {name: key.private_bytes(*form) for name, key in keys.items()} | {"empty": b"", "text": b"not a key"}


@pytest.mark.parametrize("name", ["p384", "ed25519", "empty", "text"])
def test_a_damaged_or_foreign_key_file_is_refused_and_never_replaced(tmp_path: Path, name: str) -> None:
    content = other_private_keys()[name]
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        SigningKey.load_or_create(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "public",
    [
        rsa.generate_private_key(65537, 2048).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
    ],
    ids=["rsa", "ed25519", "secp256k1"],
)
def test_only_ecdsa_keys_on_nist_curves_verify(public: object) -> None:
    with pytest.raises(ValueError, match="not an ECDSA key"):
        VerifyingKey.from_public(public)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\0" * 50])
def test_what_is_no_public_key_is_refused_with_a_reason(pem: bytes) -> None:
    with pytest.raises(ValueError, match="not a PEM public key"):
        VerifyingKey.from_pem(pem)


@pytest.mark.parametrize(
    ("curve", "hash_name"), [(ec.SECP256R1(), "sha256"), (ec.SECP384R1(), "sha384"), (ec.SECP521R1(), "sha512")]
)
def test_the_hash_goes_with_the_curve_and_no_other_is_accepted(curve: ec.EllipticCurve, hash_name: str) -> None:
    private = ec.generate_private_key(curve)
    key = VerifyingKey.from_public(private.public_key())
    assert key.hash_name == hash_name
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        signature = private.sign(b"data", ec.ECDSA(algorithm))
        assert key.verifies(signature, b"data") == (algorithm.name == hash_name)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"0\6\2\1\0\2\1\0", b"\x30" * 500])
def test_garbage_is_not_a_signature(key: SigningKey, signature: bytes) -> None:
    assert not key.verifying.verifies(signature, b"data")
    assert not key.verifying.verifies_digest(signature, b"\0" * 32)


def test_a_digest_of_the_wrong_length_never_verifies(key: SigningKey) -> None:
    assert not key.verifying.verifies_digest(key.sign(b"data"), b"short")
