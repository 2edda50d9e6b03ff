"""What was verified about a server, as one signed statement to take along.  Blocking: every byte of the image is read."""

from __future__ import annotations

from harbourmaster.core.settings import Settings
from policies.keys import SigningKey
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.export import statement_of
from registry.oci.layout import OciLayout
from registry.target import target_of
from registry.verify import Verifier
from web.deeds import locked_server


def signed_evidence(settings: Settings, name: str) -> bytes:
    """As `hm evidence export NAME -o NAME.json`; `hm verify --offline` checks it on any machine.  Raises what verification raises."""
    locked = locked_server(settings, name)
    layout = OciLayout(settings.oci_dir)
    verifier = Verifier(layout, None, TrustPolicy.load(settings), PolicySet.load(settings), offline=True)
    evidence = verifier.verify(target_of(settings, name, locked=locked.image))
    return statement_of(layout, evidence, verifier.policies.digest, SigningKey.load_or_create(settings.keys_dir))
