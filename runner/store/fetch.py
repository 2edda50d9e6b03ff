"""``pull``, whatever the name: from a registry or from Hugging Face, and past the trust policy."""

from __future__ import annotations

from collections.abc import Callable

from harbourmaster.core.settings import Settings
from policies.trust import TrustPolicy
from registry.errors import SignatureMissing
from registry.oci.remote import Remote
from runner.store import huggingface, signing, transfer
from runner.store.store import Model, ModelStore
from runner.store.transfer import Progress


def check_name(name: str) -> None:
    """Raises ``RequestInvalid`` for what is no model's name, before anything is fetched."""
    if huggingface.is_ours(name):
        huggingface.parse(name)
    else:
        transfer.remote_name(name)


def pull(
    settings: Settings,
    store: ModelStore,
    name: str,
    progress: Progress = lambda *_: None,
    *,
    plain_http: bool = False,
) -> Model:
    """Blocking.  With rules for models in ``trust.yaml``, what nobody trusted has signed gets no name here."""
    policy = trust(settings)
    if huggingface.is_ours(name):
        if policy:
            raise SignatureMissing(
                f"{name} is not signed: Hugging Face has no signatures",
                remedy="push it to a registry and sign it there",
            )
        return huggingface.pull(store, name, progress)
    vouch = _voucher(store, policy, name, plain_http) if policy else None
    return transfer.pull(store, name, progress, plain_http=plain_http, vouch=vouch)


def trust(settings: Settings) -> TrustPolicy | None:
    """The trust policy if it speaks of models."""
    if not settings.trust_file.exists():
        return None
    policy = TrustPolicy.load(settings)
    return policy if signing.applies(policy) else None


def _voucher(store: ModelStore, policy: TrustPolicy, name: str, plain_http: bool) -> Callable[[str], None]:
    wanted = signing.requirement(policy, name)  # who is trusted for it is known before a byte is fetched

    def vouch(digest: str) -> None:
        Remote(plain_http=plain_http).papers(transfer.remote_name(name), store.layout, digest)
        signing.check(store, digest, wanted)

    return vouch
