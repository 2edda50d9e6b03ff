"""Keyless signing in miniature: a certificate authority, its certificate log and a transparency log, all of one test.

world = TinyFulcio()
bundle = world.sign(statement, identity="https://example.org/release", at=...)
root = world.root(tmp_path / "trusted_root.json")
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ISSUER = "https://accounts.example.org"
LIFE = timedelta(minutes=10)  # of a certificate, as Fulcio's
START = "2020-01-01T00:00:00Z"
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # sigstore/fulcio docs/oid-info.md
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")  # RFC 6962, section 3.3


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def log_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


def signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


class TinyFulcio:
    def __init__(self) -> None:
        self.ca_key, self.ct_key, self.log_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tiny fulcio")])
        self.ca = (
            x509.CertificateBuilder(name, name, self.ca_key.public_key(), x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2045, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(*[False] * 5, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.ca_key.public_key()), critical=False)
            .sign(self.ca_key, hashes.SHA256())
        )

    def sign(self, statement: dict[str, Any], *, identity: str, at: datetime, logged: datetime | None = None) -> bytes:
        """A v0.3 bundle; ``at`` is when the certificate begins, ``logged`` what the log says (the same, by default)."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, identity, at)
        payload = json.dumps(statement).encode()
        pae = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        envelope = {
            "payload": b64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": b64(signed(key, pae))}],
        }
        material = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [self._entry(envelope, payload, certificate, int((logged or at).timestamp()))],
        }
        bundle = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }
        return json.dumps(bundle).encode()

    def root(self, path: Path) -> Path:
        certificate = self.ca.public_bytes(serialization.Encoding.DER)
        authority = {
            "subject": {"organization": "test", "commonName": "tiny fulcio"},
            "uri": "https://fulcio.example.org",
            "certChain": {"certificates": [{"rawBytes": b64(certificate)}]},
            "validFor": {"start": START},
        }
        body = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log(self.log_key, "log.example.org")],
            "certificateAuthorities": [authority],
            "ctlogs": [_log(self.ct_key, "ct.example.org")],
            "timestampAuthorities": [],
        }
        path.write_text(json.dumps(body))
        return path

    def _certificate(self, key: ec.EllipticCurvePrivateKey, identity: str, at: datetime) -> x509.Certificate:
        issuer = ISSUER.encode()
        builder = (
            x509.CertificateBuilder(self.ca.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + LIFE)
            .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, bytes([12, len(issuer)]) + issuer), critical=False)
        )
        before = builder.sign(self.ca_key, hashes.SHA256()).tbs_certificate_bytes
        scts = x509.UnrecognizedExtension(_SCT_OID, self._scts(before, at))
        return builder.add_extension(scts, critical=False).sign(self.ca_key, hashes.SHA256())

    def _scts(self, tbs: bytes, at: datetime) -> bytes:
        """RFC 6962, section 3.2: the certificate log's promise, over the certificate without it."""
        moment = int(at.timestamp() * 1000)
        entry = log_id(self.ca_key) + len(tbs).to_bytes(3, "big") + tbs
        signature = signed(self.ct_key, struct.pack(">BBQH", 0, 0, moment, 1) + entry + b"\0\0")
        sct = b"\0" + log_id(self.ct_key) + struct.pack(">QHBBH", moment, 0, 4, 3, len(signature)) + signature
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        return b"\x04" + (bytes([len(listed)]) if len(listed) < 128 else bytes([0x81, len(listed)])) + listed

    def _entry(
        self, envelope: dict[str, Any], payload: bytes, certificate: x509.Certificate, at: int
    ) -> dict[str, Any]:
        """Rekor's ``dsse`` 0.0.1 entry, alone in its log."""
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "envelopeHash": _sha256(json.dumps(envelope).encode()),
            "payloadHash": _sha256(payload),
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": b64(pem)}],
        }
        body = rfc8785.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        root, me = hashlib.sha256(b"\0" + body).digest(), log_id(self.log_key)
        note = f"log.example.org - 1\n1\n{b64(root)}\n"
        mark = b64(me[:4] + signed(self.log_key, note.encode()))
        promise = rfc8785.dumps({"body": b64(body), "integratedTime": at, "logID": me.hex(), "logIndex": 0})
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(me)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(at),
            "inclusionPromise": {"signedEntryTimestamp": b64(signed(self.log_key, promise))},
            "inclusionProof": {
                "logIndex": "0",
                "treeSize": "1",
                "hashes": [],
                "rootHash": b64(root),
                "checkpoint": {"envelope": f"{note}\n— log.example.org {mark}\n"},
            },
            "canonicalizedBody": b64(body),
        }


def _sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _log(key: ec.EllipticCurvePrivateKey, host: str) -> dict[str, Any]:
    public = {"rawBytes": b64(der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": START}}
    return {
        "baseUrl": f"https://{host}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": public,
        "logId": {"keyId": b64(log_id(key))},
    }
