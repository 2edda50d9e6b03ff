"""Reads ``trust.yaml``: nothing unknown, nothing assumed, every complaint with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from policies.errors import TrustInvalid
from policies.keys import MAX_KEY_BYTES, VerifyingKey
from policies.trust import ANY_TIER, CATALOG, MODEL, TIERS, Requirement, TrustedIdentity, TrustRule

MAX_FILE_BYTES = 256 << 10  # ours: thousands of rules
_PATTERN = re.compile(r"[a-z0-9*][a-z0-9._:/*-]*")
_RULE_KEYS = frozenset({"name", "tier", "servers", "keys", "identities", "trusted_root"})


class TrustFile:
    """``named``: the files that its rules lead to."""

    def __init__(self, path: Path, local: VerifyingKey | None) -> None:
        self._path = path
        self._local = local
        self.named: list[Path] = []

    def rules(self, raw: bytes) -> tuple[TrustRule, ...]:
        body = self._yaml(raw)
        if body is None:
            return ()
        top = self._map(body, 1, frozenset({"version", "rules"}))
        if top.get("version") != 1:
            raise self._wrong("version must be 1", _line(top, "version"))
        rules = self._list(top, "rules")
        parsed = tuple(self._rule(rule, _item_line(rules, i)) for i, rule in enumerate(rules))
        names = [rule.requirement.rule for rule in parsed]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise self._wrong(f"two rules are named {name!r}", _item_line(rules, i))
        return parsed

    def _yaml(self, raw: bytes) -> Any:
        if len(raw) > MAX_FILE_BYTES:
            raise self._wrong(f"it has {len(raw)} bytes; the limit is {MAX_FILE_BYTES}", 1)
        try:
            return YAML(typ="rt", pure=True).load(raw.decode("utf-8"))
        except UnicodeDecodeError as e:
            raise self._wrong("it is not UTF-8", raw[: e.start].count(b"\n") + 1) from e
        except MarkedYAMLError as e:
            line = e.problem_mark.line + 1 if e.problem_mark else 1
            raise self._wrong(str(e.problem or e.context or "not YAML"), line) from e
        except (YAMLError, RecursionError, ValueError) as e:
            raise self._wrong(f"not YAML: {e}", 1) from e

    def _rule(self, value: Any, line: int) -> TrustRule:
        rule = self._map(value, line, _RULE_KEYS)
        tier = self._text(rule, "tier")
        known = (*TIERS, CATALOG, MODEL, ANY_TIER)
        if tier not in known:
            raise self._wrong(f"tier must be one of {', '.join(known)}", _line(rule, "tier"))
        servers = self._list(rule, "servers")
        for i, pattern in enumerate(servers):
            if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
                raise self._wrong(f"{pattern!r} is not a server name or pattern", _item_line(servers, i))
        root, refresh = self._root(rule)
        keys, identities = self._list(rule, "keys"), self._list(rule, "identities")
        held = tuple(self._key(key, _item_line(keys, i)) for i, key in enumerate(keys))
        requirement = Requirement(
            rule=self._text(rule, "name"),
            keys=held,
            identities=tuple(self._identity(item, _item_line(identities, i)) for i, item in enumerate(identities)),
            publisher=tier != "community" or bool(identities) or set(held) != {self._local},
            trusted_root=root,
            refresh=refresh,
        )
        return TrustRule(tier, tuple(servers), requirement)

    def _root(self, rule: CommentedMap) -> tuple[Path | None, bool]:
        if "trusted_root" not in rule:
            return None, False
        value = self._text(rule, "trusted_root")
        if value in ("public-good", "tuf"):
            return None, value == "tuf"
        path = self._path.parent / value
        self.named.append(path)
        if not path.is_file():
            raise self._wrong(f"trusted_root {path} is not a file", _line(rule, "trusted_root"))
        return path, False

    def _key(self, value: Any, line: int) -> VerifyingKey:
        entry = self._map(value, line, frozenset({"file", "pem", "local", "id"}))
        sources = [name for name in ("file", "pem", "local") if name in entry]
        if len(sources) != 1:
            raise self._wrong("a key is given by exactly one of file, pem and local", line)
        key = self._key_from(entry, sources[0])
        if "id" in entry and self._text(entry, "id") != key.key_id:
            raise self._wrong(f"this key's id is {key.key_id}", _line(entry, "id"))
        return key

    def _key_from(self, entry: CommentedMap, source: str) -> VerifyingKey:
        line = _line(entry, source)
        if source == "local":
            if entry["local"] is not True or self._local is None:
                raise self._wrong("local must be true, and this installation must have a key", line)
            return self._local
        try:
            text = self._text(entry, source)
            pem = text.encode() if source == "pem" else self._read(text)
            return VerifyingKey.from_pem(pem)
        except (OSError, ValueError) as e:
            raise self._wrong(f"{source}: {e}", line) from e

    def _read(self, name: str) -> bytes:
        path = self._path.parent / name
        self.named.append(path)
        with path.open("rb") as f:
            return f.read(MAX_KEY_BYTES)

    def _identity(self, value: Any, line: int) -> TrustedIdentity:
        entry = self._map(value, line, frozenset({"issuer", "identity", "identity_regex"}))
        if ("identity" in entry) == ("identity_regex" in entry):
            raise self._wrong("an identity needs either identity or identity_regex", line)
        if "identity" in entry:
            return TrustedIdentity(self._text(entry, "issuer"), identity=self._text(entry, "identity"))
        regex = self._text(entry, "identity_regex")
        try:
            re.compile(regex)
        except re.error as e:
            raise self._wrong(f"identity_regex: {e}", _line(entry, "identity_regex")) from e
        return TrustedIdentity(self._text(entry, "issuer"), identity_regex=regex)

    def _map(self, value: Any, line: int, allowed: frozenset[str]) -> CommentedMap:
        if not isinstance(value, CommentedMap):
            raise self._wrong(f"expected a mapping with {', '.join(sorted(allowed))}", line)
        for key in value:
            if key not in allowed:
                raise self._wrong(f"unknown key {key!r}; known are {', '.join(sorted(allowed))}", _line(value, key))
        return value

    def _list(self, holder: CommentedMap, key: str) -> CommentedSeq:
        value = holder.get(key)
        if value is None:
            return CommentedSeq()
        if not isinstance(value, CommentedSeq):
            raise self._wrong(f"{key} must be a list", _line(holder, key))
        return value

    def _text(self, holder: CommentedMap, key: str) -> str:
        value = holder.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(f"{key} must be text", _line(holder, key))
        return str(value)

    def _wrong(self, why: str, line: int) -> TrustInvalid:
        return TrustInvalid(
            f"{self._path}, line {line}: {why}",
            remedy=f"correct {self._path}; until then nothing is trusted",
            file=str(self._path),
            line=line,
        )


def _line(holder: CommentedMap, key: Any) -> int:
    try:
        return int(holder.lc.key(key)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        return int(holder.lc.line) + 1


def _item_line(holder: CommentedSeq, index: int) -> int:
    try:
        return int(holder.lc.item(index)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        return int(getattr(holder.lc, "line", 0) or 0) + 1
