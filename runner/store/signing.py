"""Who vouches for a model: the same trust policy and the same bundles as for servers, under the tier ``model``.

As long as ``trust.yaml`` has no rule of that tier, models are pulled as they come.  The first such rule closes the door: every
pull must then match a rule, and the signature must stand, or nothing gets a name in the store.
"""

from __future__ import annotations

from policies.bundles import sign_statement
from policies.evidence import Signature
from policies.keys import SigningKey
from policies.statements import SIGNATURE, statement
from policies.trust import MODEL, Requirement, TrustPolicy
from registry.attached import Attached
from registry.errors import SignatureMissing
from registry.oci import media
from registry.oci.reference import Reference as OciReference
from runner.store.store import ModelStore
from runner.store.transfer import remote_name


def applies(trust: TrustPolicy) -> bool:
    """Does the policy speak of models?"""
    return any(rule.tier == MODEL for rule in trust.rules)


def requirement(trust: TrustPolicy, name: str) -> Requirement:
    """What signatures of the model ``name`` must meet; raises ``TrustEmpty``."""
    ref = OciReference.parse(remote_name(name))
    return trust.for_server(f"{ref.host}/{ref.name}", MODEL)


def check(store: ModelStore, digest: str, wanted: Requirement) -> tuple[Signature, str]:
    """Who signed the manifest ``digest``, and the bundle's digest; raises ``SignatureMissing`` or the signature's error."""
    found = Attached(store.layout, digest, wanted, None).signature()
    if found is None:
        raise SignatureMissing(
            f"nobody has signed the model {digest}",
            remedy="ask its publisher, or change the rules of tier model in trust.yaml",
            rule=wanted.rule,
        )
    return found


def sign(store: ModelStore, name: str, key: SigningKey) -> str:
    """Attach a signature over the model's manifest; returns the bundle's digest.  ``push`` takes it along."""
    model = store.find(name)
    bundle = sign_statement(statement(model.name, model.id, SIGNATURE, {}), key)
    for old in store.layout.referrers(model.id, media.SIGSTORE_BUNDLE):
        if old.annotations.get(media.KEY_ANNOTATION) == key.key_id:
            store.layout.remove_referrer(old.digest)
    annotations = {media.PREDICATE_TYPE_ANNOTATION: SIGNATURE, media.KEY_ANNOTATION: key.key_id}
    return store.layout.add_referrer(model.id, bundle, annotations=annotations).digest
