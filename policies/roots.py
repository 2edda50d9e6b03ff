"""Trusted roots: which certificate authorities, logs and timestamp authorities a keyless signature may lean on.

A local file, the public-good instance's root as the pinned ``sigstore`` release carries it (both without any network),
or the same root refreshed over TUF.
"""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from sigstore.errors import Error, TUFError
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore_models.common.v1 import TimeRange
from sigstore_models.trustroot.v1 import TrustedRoot as _TrustedRoot

from harbourmaster.core.errors import UnavailableError
from policies import strict_json
from policies.errors import TrustedRootInvalid

MAX_ROOT_BYTES = 4 << 20  # the public-good root has 13 KB
_PUBLIC_GOOD = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"  # sigstore's own name for its embedded production store


def load(path: Path | None) -> TrustedRoot:
    """The root in ``path``; None: the embedded public-good root.  Raises ``TrustedRootInvalid``."""
    if path is None:
        return _parse(public_good(), "the embedded public-good root")
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise _invalid(str(path), f"it cannot be read ({e.strerror})") from e
    return _parse(raw, str(path))


def public_good() -> bytes:
    """trusted_root.json of Sigstore's public-good production instance, as released with ``sigstore``."""
    return resources.files("sigstore._store").joinpath(_PUBLIC_GOOD, "trusted_root.json").read_bytes()


def refreshed() -> TrustedRoot:
    """The public-good root, updated over TUF now; raises ``UnavailableError`` where its repository does not answer."""
    try:
        return ClientTrustConfig.production(offline=False).trusted_root
    except (TUFError, OSError) as e:
        raise UnavailableError(
            f"the public-good trust root could not be refreshed: {e}",
            remedy="go online, or name a trusted_root file in trust.yaml",
        ) from e


@functools.lru_cache(maxsize=16)
def _parse(raw: bytes, name: str) -> TrustedRoot:
    try:
        strict_json.loads(raw, limit=MAX_ROOT_BYTES)
        root = TrustedRoot(_TrustedRoot.from_json(raw))
        root.get_fulcio_certs()
        root.get_timestamp_authorities()
    except (ValueError, Error) as e:
        raise _invalid(name, str(e)) from e
    return root


def covers(window: TimeRange | None, moment: float) -> bool:
    """Whether ``moment`` (seconds since the epoch) lies in the closed interval ``window`` (sigstore_common.proto)."""
    if window is None:
        return True
    return window.start.timestamp() <= moment and (window.end is None or moment <= window.end.timestamp())


def _invalid(name: str, why: str) -> TrustedRootInvalid:
    return TrustedRootInvalid(
        f"{name} is not a usable trusted root: {why}",
        remedy="get a fresh trusted_root.json from the instance's operator",
    )
