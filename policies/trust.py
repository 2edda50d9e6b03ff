"""The trust policy: whose signature is accepted for which server.

``HM_HOME/trust.yaml``; the first rule whose tier and name pattern match decides, alone:

    version: 1
    rules:
      - name: our own builds
        tier: built                      # built, community, catalog, model, or any
        servers: ["*"]                   # exact names, or patterns with *
        keys:
          - local: true                  # the key of this installation
          - file: keys/acme.pub          # PEM, beside trust.yaml
            id: sha256:9f86d0...         # optional: refuse the file if it holds another key
          - pem: "-----BEGIN PUBLIC KEY-----..."
        identities:
          - issuer: https://token.actions.githubusercontent.com
            identity: https://github.com/acme/servers/.github/workflows/release.yml@refs/heads/main
            # or identity_regex: matched against the whole identity
        trusted_root: trusted_root.json  # optional: a file, public-good (the default) or tuf

Without the file, this installation's key is trusted for what it built (tier ``built``) and for what it found in the images
of publishers (tier ``community``, pinned by digest).  A file without rules, a rule without
keys and identities, and a server that no rule matches accept nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.digests import sha256
from harbourmaster.core.settings import Settings
from policies.errors import TrustEmpty
from policies.keys import KEY_FILE, SigningKey, VerifyingKey

TIERS = ("built", "community")
CATALOG = "catalog"  # in a tier's place: who signs a catalog that is read from a registry; its name is host/repository
MODEL = "model"  # in a tier's place: who signs models that are pulled; a model's name is host/repository
ANY_TIER = "any"  # built and community, nothing else


@dataclass(frozen=True)
class TrustedIdentity:
    """An issuer and either one exact identity or a regular expression that must match all of it."""

    issuer: str
    identity: str | None = None
    identity_regex: str | None = None

    def accepts(self, issuer: str, identity: str) -> bool:
        if issuer != self.issuer:
            return False
        if self.identity is not None:
            return identity == self.identity
        return self.identity_regex is not None and re.fullmatch(self.identity_regex, identity) is not None


@dataclass(frozen=True)
class Requirement:
    """What one server's signatures must meet: any of ``keys``, or any of ``identities`` under ``trusted_root``.

    ``trusted_root`` None means the public-good root; ``refresh`` that it is first updated over TUF.  ``publisher`` False: these
    keys vouch for what is in a publisher's image (SBOM, listing), not for who published it, so no publisher's signature is
    looked for.
    """

    rule: str
    keys: tuple[VerifyingKey, ...] = ()
    identities: tuple[TrustedIdentity, ...] = ()
    trusted_root: Path | None = None
    refresh: bool = False
    publisher: bool = True


@dataclass(frozen=True)
class TrustRule:
    tier: str
    servers: tuple[str, ...]
    requirement: Requirement

    def matches(self, name: str, tier: str) -> bool:
        tiers = (tier, ANY_TIER) if tier in TIERS else (tier,)
        return self.tier in tiers and any(fnmatchcase(name, pattern) for pattern in self.servers)

    def as_dict(self) -> dict[str, Any]:
        """JSON shape for ``hm policy ls`` and for the policy's digest: keys by id, the root by its bytes' digest."""
        need = self.requirement
        root = need.trusted_root
        return {
            "name": need.rule,
            "tier": self.tier,
            "servers": list(self.servers),
            "keys": [key.key_id for key in need.keys],
            "identities": [
                {"issuer": i.issuer, "identity": i.identity, "identity_regex": i.identity_regex}
                for i in need.identities
            ],
            "trusted_root": sha256(root.read_bytes()) if root else "tuf" if need.refresh else "public-good",
        } | ({} if need.publisher else {"publisher": False})


@dataclass(frozen=True)
class TrustPolicy:
    """``source`` names the file, or says that this is the default; ``digest`` is part of every cached verdict's key.
    ``files``: all that it was read from; whoever keeps it looks whether one of them changed."""

    rules: tuple[TrustRule, ...]
    source: str
    digest: str
    files: tuple[Path, ...] = ()

    @classmethod
    def load(cls, settings: Settings) -> TrustPolicy:
        """Read ``settings.trust_file``, else the default; raises ``TrustInvalid`` naming file and line."""
        path = settings.trust_file
        own = (path, settings.keys_dir / KEY_FILE)
        local = SigningKey.load_or_create(settings.keys_dir).verifying
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return replace(cls.default(local), files=own)
        found = cls.parse(text, path=path, local=local)
        return replace(found, files=(*own, *found.files))

    @classmethod
    def default(cls, local: VerifyingKey) -> TrustPolicy:
        """What this installation built and signed itself, and nothing else."""
        rules = (
            TrustRule("built", ("*",), Requirement("local builds", keys=(local,))),
            TrustRule("community", ("*",), Requirement("local surveys", keys=(local,), publisher=False)),
        )
        source = "default (no trust.yaml): the key of this installation, for what it built or looked into itself"
        return cls.of(rules, source)

    @classmethod
    def parse(cls, text: bytes | str, *, path: Path, local: VerifyingKey | None = None) -> TrustPolicy:
        """``path`` is named in errors; files are looked up beside it."""
        from policies.trust_file import TrustFile

        raw = text.encode() if isinstance(text, str) else text
        file = TrustFile(path, local)
        return replace(cls.of(file.rules(raw), str(path)), files=tuple(file.named))

    @classmethod
    def of(cls, rules: tuple[TrustRule, ...], source: str) -> TrustPolicy:
        return cls(rules, source, canonical_digest({"version": 1, "rules": [rule.as_dict() for rule in rules]}))

    def for_server(self, name: str, tier: str) -> Requirement:
        """The requirement that signatures of ``name`` must meet; raises ``TrustEmpty`` where nobody is trusted."""
        for rule in self.rules:
            if rule.matches(name, tier):
                if not rule.requirement.keys and not rule.requirement.identities:
                    raise self._empty(name, tier, f"its rule {rule.requirement.rule!r} names no key and no identity")
                return rule.requirement
        raise self._empty(name, tier, "no rule matches it" if self.rules else "it has no rules")

    def _empty(self, name: str, tier: str, why: str) -> TrustEmpty:
        return TrustEmpty(
            f"the trust policy trusts nobody for {name} (tier {tier}): {why} ({self.source})",
            remedy="name a key or an identity for it in trust.yaml (hm policy ls shows the rules)",
            server=name,
            tier=tier,
        )
