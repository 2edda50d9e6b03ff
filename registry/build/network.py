"""How a build reaches package indexes from here: corporate CAs, proxies and index addresses.

All of it goes to builder containers over their standard input or beside apt's configuration, never into an image, an
environment that ``docker inspect`` shows, or a log.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What pip, npm, OpenSSL, Python's requests and curl read (their manuals).
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
CA_TARGETS = (*CA_VARIABLES, "npm_config_cafile")
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine: update-ca-certificates folds local CAs in
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
)
MAX_BUNDLE_BYTES = 8 << 20  # Mozilla's whole list is 230 kB

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True)
class BuildNetwork:
    ca_bundle: bytes = b""  # PEM, empty where the machine has none
    variables: dict[str, str] = field(default_factory=dict)

    def shell(self, ca_path: str) -> bytes:
        """Lines of shell that export all this; ``ca_path`` is where the bundle lies in the container."""
        values = dict(self.variables)
        if self.ca_bundle:
            values |= dict.fromkeys(CA_TARGETS, ca_path)
        return "".join(f"export {k}={shlex.quote(v)}\n" for k, v in sorted(values.items())).encode()

    def apt_conf(self, ca_path: str) -> bytes:
        """apt.conf(5) lines for the same."""
        lines = []
        if self.ca_bundle:
            lines.append(f'Acquire::https::CAInfo "{ca_path}";')
        for scheme in ("http", "https"):
            name = f"{scheme}_proxy"
            proxy = self.variables.get(name) or self.variables.get(name.upper(), "")
            if proxy and '"' not in proxy and "\n" not in proxy:
                lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
        return "".join(line + "\n" for line in lines).encode()


def detect(environ: Mapping[str, str], *, system_bundles: tuple[str, ...] = SYSTEM_BUNDLES) -> BuildNetwork:
    """Read the machine's CA bundles and the named variables of ``environ``; unreadable bundles count as absent."""
    named = [environ[v] for v in CA_VARIABLES if environ.get(v)]
    certificates: dict[bytes, None] = {}
    for path in (*named, *system_bundles):
        for pem in _PEM.findall(_read(Path(path))):
            certificates.setdefault(pem.strip(), None)
    bundle = b"".join(pem + b"\n" for pem in certificates)
    names = (*PROXY_VARIABLES, *INDEX_VARIABLES)
    return BuildNetwork(bundle, {name: environ[name] for name in names if environ.get(name)})


def _read(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BUNDLE_BYTES:
            return b""
        return path.read_bytes()
    except OSError:
        return b""
