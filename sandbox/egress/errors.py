"""What the egress broker refuses, and why.

RefusedError
`-- EgressDenied             this connection may not be made             (each below)
    |-- HostDenied           no rule names that host and port            egress.host_denied
    |-- AddressDenied        it resolved to an address never allowed     egress.address_denied
    |-- NameMismatch         TLS asks for another name than the rule's   egress.name_mismatch
    |-- NotTls               the rule's port is for TLS, this is not     egress.not_tls
    |-- RequestMalformed     the proxy request cannot be understood      egress.request_malformed
    `-- TooMuch              bytes or connections over the limit         egress.limit
UnavailableError
|-- ResolveFailed            the name has no address                     egress.unresolved
|-- ConnectFailed            the host did not take the connection        egress.unreachable
|-- TimedOut                 idle, or slow to begin                      egress.timeout
`-- RelayFailed              the relay did not come up                   egress.relay_failed
ConfigError
`-- RuleInvalid              a rule cannot be served                     egress.rule_invalid
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, RefusedError, UnavailableError


class EgressDenied(RefusedError):
    code = "egress.denied"


class HostDenied(EgressDenied):
    code = "egress.host_denied"


class AddressDenied(EgressDenied):
    code = "egress.address_denied"


class NameMismatch(EgressDenied):
    code = "egress.name_mismatch"


class NotTls(EgressDenied):
    code = "egress.not_tls"


class RequestMalformed(EgressDenied):
    code = "egress.request_malformed"


class TooMuch(EgressDenied):
    code = "egress.limit"


class ResolveFailed(UnavailableError):
    code = "egress.unresolved"


class ConnectFailed(UnavailableError):
    code = "egress.unreachable"


class TimedOut(UnavailableError):
    code = "egress.timeout"


class RelayFailed(UnavailableError):
    code = "egress.relay_failed"


class RuleInvalid(ConfigError):
    code = "egress.rule_invalid"
