"""A transparency log with one entry, enough of Rekor to log key-signed bundles: checkpoint, inclusion proof, promise."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import rfc8785

from policies.keys import SigningKey

NOT_BEFORE = "2020-01-01T00:00:00Z"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


class TinyLog:
    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.log_id = hashlib.sha256(self.key.verifying.der).digest()

    def entry(self, kind: str, version: str, spec: dict[str, Any], *, time: int = 1_750_000_000) -> dict[str, Any]:
        """The bundle's tlogEntry for a body of this kind."""
        body = rfc8785.dumps({"apiVersion": version, "kind": kind, "spec": spec})
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"log.example - 1\n1\n{b64(root)}\n"
        signed = b64(self.log_id[:4] + self.key.sign(note.encode()))
        promise = {"body": b64(body), "integratedTime": time, "logID": self.log_id.hex(), "logIndex": 0}
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(self.log_id)},
            "kindVersion": {"kind": kind, "version": version},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self.key.sign(rfc8785.dumps(promise)))},
            "inclusionProof": {
                "logIndex": "0",
                "treeSize": "1",
                "hashes": [],
                "rootHash": b64(root),
                "checkpoint": {"envelope": f"{note}\n— log.example {signed}\n"},
            },
            "canonicalizedBody": b64(body),
        }

    def root(self, path: Path, *, start: str = NOT_BEFORE, end: str | None = None, template: bytes) -> Path:
        """A trusted root file that trusts this log; ``template`` lends the authorities that a root must have."""
        body = json.loads(template)
        window = {"start": start} | ({"end": end} if end else {})
        details = {"rawBytes": b64(self.key.verifying.der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window}
        body["tlogs"] = [
            {
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": details,
                "logId": {"keyId": b64(self.log_id)},
            }
        ]
        path.write_text(json.dumps(body))
        return path


def entry_specs(bundle: bytes, key: SigningKey) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """What Rekor would log for a DSSE bundle, by the three kinds that can: (kind, version, spec)."""
    envelope = json.loads(bundle)["dsseEnvelope"]
    payload, sig = base64.b64decode(envelope["payload"]), envelope["signatures"][0]["sig"]
    kind = envelope["payloadType"]
    pem = b64(key.verifying.pem)
    encoded = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    return {
        "dsse": (
            "dsse",
            "0.0.1",
            {
                "envelopeHash": sha256(b"any"),
                "payloadHash": sha256(payload),
                "signatures": [{"signature": sig, "verifier": pem}],
            },
        ),
        "intoto": (
            "intoto",
            "0.0.2",
            {
                "content": {
                    "envelope": {"payloadType": kind, "signatures": [{"sig": b64(sig), "publicKey": pem}]},
                    "hash": sha256(b"any"),
                    "payloadHash": sha256(payload),
                }
            },
        ),
        "hashedrekord": (
            "hashedrekord",
            "0.0.2",
            {
                "hashedRekordV002": {
                    "data": {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(encoded).digest())},
                    "signature": {
                        "content": sig,
                        "verifier": {
                            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                            "publicKey": {"rawBytes": b64(key.verifying.der)},
                        },
                    },
                }
            },
        ),
    }
