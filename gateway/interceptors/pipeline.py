"""The order of what looks at a call: size, secrets, schema, then custom ones before; the reverse after.

The usual call is looked at without waiting: ``before`` and ``after`` say by their result whether a custom interceptor has
to be waited for.  What custom ones change is looked at again.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from gateway.calls import Call
from gateway.index import Route
from gateway.interceptors.blobs import MARK, blobs
from gateway.interceptors.config import InterceptorsConfig
from gateway.interceptors.errors import (
    ArgumentsTooLarge,
    InjectionMarked,
    Lookalikes,
    ResultTooLarge,
    SecretInArguments,
    SecretInResult,
)
from gateway.interceptors.hooks import Hooks
from gateway.interceptors.marks import META_KEY, marks
from gateway.interceptors.schemas import Schemas, check_arguments, check_output
from gateway.interceptors.secrets import IN_USE_NAME, Found, SecretScan, kinds, redacted
from gateway.lock import LockedServer
from gateway.messages import decode, encode
from gateway.tasks import tool_result
from harbourmaster.core.errors import RefusedError
from harbourmaster.core.redaction import IN_USE

log = logging.getLogger("gateway.interceptors")

_NO_ARGUMENTS: Final[dict[str, Any]] = {}


class Pipeline:
    """``hooks``: the custom interceptors, None where there are none."""

    def __init__(self, config: InterceptorsConfig, hooks: Hooks | None = None, scan: SecretScan | None = None) -> None:
        self.hooks = hooks
        self._config = config
        self._scan = scan or SecretScan(IN_USE)
        self._schemas = Schemas()

    def before(self, call: Call, server: LockedServer, route: Route, params: dict[str, Any]) -> None:
        """Check what goes to ``server``.  Raises what ``gateway.interceptors.errors`` names."""
        config = self._config
        raw = encode(params)
        if len(raw) > config.max_arguments_bytes:
            raise ArgumentsTooLarge(
                f"the arguments have {len(raw)} bytes, and may have {config.max_arguments_bytes}",
                remedy="send less at once, or raise max_arguments_bytes in [interceptors]",
            )
        if config.secrets_in_arguments != "off":
            self._secrets_in(call, raw, route)
        if call.method == "tools/call" and config.arguments_schema != "off":
            schemas = self._schemas.of(server, route.name)
            given = params.get("arguments")
            arguments = _NO_ARGUMENTS if given is None else given
            check_arguments(schemas, arguments, route.public, lenient=config.arguments_schema == "lenient")

    def screen(self, answer: Any) -> RefusedError | None:
        """Why the client's ``answer`` to a server's question is not sent; None where it is."""
        if self._config.secrets_in_arguments == "off" or answer is None:
            return None
        try:
            found = self._scan.find(encode(answer))
        except Lookalikes:
            found = [Found("untold", 0, 0)]
        named = kinds(found)
        if not named:
            return None
        if self._config.secrets_in_arguments != "block":
            log.warning("an answer to a server's question carries a credential (%s)", ", ".join(named))
            return None
        return SecretInArguments(
            f"the answer to the server's question carries a credential ({', '.join(named)}), so it was not sent",
            remedy="leave it out: servers get their own secrets with hm secret set",
            notes=[f"secret-in-answer:{kind}" for kind in named],
        )

    async def before_custom(
        self, call: Call, server: LockedServer, route: Route, params: dict[str, Any], principal: str
    ) -> None:
        """Let the hooks look, and change ``params`` in place; what they changed is checked again."""
        assert self.hooks is not None
        if await self.hooks.before(call, route, params, principal):
            call.note("hook:changed-arguments")
            self.before(call, server, route, params)

    async def after_custom(self, call: Call, route: Route, reply: dict[str, Any], principal: str) -> dict[str, Any]:
        """The reply as the hooks leave it.  They see it without the secrets in it."""
        assert self.hooks is not None
        shown, what = reply, self._config.secrets_in_results
        if what != "off":
            raw = encode(reply)
            if found := self._scan.find(raw):
                self._found_out(call, route, found, block=what == "block")
                shown = decode(redacted(raw, found))
        left = await self.hooks.after(call, route, shown, principal)
        return reply if left is shown else left

    def after(self, call: Call, server: LockedServer, route: Route, reply: dict[str, Any]) -> bytes:
        """The encoded answer, checked and marked.  Raises what ``gateway.interceptors.errors`` names."""
        config = self._config
        result = reply.get("result")
        final = tool_result(call, result) if isinstance(result, dict) else None
        if final is not None:
            schemas = self._schemas.of(server, route.name)
            if schemas.output is not None and config.output_schema != "off":
                check_output(schemas, final, route.public, lenient=config.output_schema == "lenient")
        raw = encode(reply)
        if len(raw) > config.max_result_bytes:
            raise ResultTooLarge(
                f"the answer of {route.server} has {len(raw)} bytes, and may have {config.max_result_bytes}",
                remedy="ask for less at once, or raise max_result_bytes in [interceptors]",
            )
        if config.injection_marks != "off" and (found := marks(raw)):
            raw = self._marked(call, route, reply, found)
        if config.secrets_in_results == "off":
            return raw
        if MARK in raw and isinstance(result, dict):
            self._secrets_packed(call, route, result)
        asks = isinstance(result, dict) and result.get("resultType") == "input_required"
        return self._secrets_out(call, route, raw, in_use_only=asks)

    def clean(self, text: str) -> str:
        """``text`` without credentials, for records: a resource's name is an argument too."""
        raw = encode(text)
        try:
            return str(decode(redacted(raw, self._scan.find(raw))))
        except Lookalikes:
            return "(not told: it may hold credentials)"

    def _secrets_in(self, call: Call, raw: bytes, route: Route) -> None:
        try:
            found = self._scan.find(raw)
        except Lookalikes:
            call.note("secret-in-arguments:untold")  # so that the record's own name is looked at too
            raise
        if not found:
            return
        named = kinds(found)
        call.note(*(f"secret-in-arguments:{kind}" for kind in named))
        if self._config.secrets_in_arguments == "block":
            raise SecretInArguments(
                f"the request to {route.server} carries a credential ({', '.join(named)}), so it was not sent",
                remedy="leave it out: servers get their own secrets with hm secret set, not in arguments",
            )

    def _secrets_out(self, call: Call, route: Route, raw: bytes, *, in_use_only: bool) -> bytes:
        """``in_use_only``: a question to the client may have to carry what looks like a credential; see ``outgoing``."""
        found = self._scan.find(raw)
        if in_use_only:
            found = [each for each in found if each.kind == IN_USE_NAME]
        if not found:
            return raw
        self._found_out(call, route, found, block=self._config.secrets_in_results == "block")
        return redacted(raw, found) if self._config.secrets_in_results == "redact" else raw

    def _secrets_packed(self, call: Call, route: Route, result: dict[str, Any]) -> None:
        """Nothing can be cut out of a binary resource: with a credential in it, it is withheld."""
        found = [each for data in blobs(result) for each in self._scan.find(data)]
        if found:
            self._found_out(call, route, found, block=self._config.secrets_in_results != "report")

    def _found_out(self, call: Call, route: Route, found: list[Found], *, block: bool) -> None:
        named = kinds(found)
        call.note(*(f"secret-in-result:{kind}" for kind in named))
        if block:
            raise SecretInResult(
                f"the answer of {route.server} carries a credential ({', '.join(named)}), so it is withheld",
                remedy="find out why the server says it; secrets_in_results in [interceptors] decides about this check",
            )

    def _marked(self, call: Call, route: Route, reply: dict[str, Any], found: list[str]) -> bytes:
        call.note(*(f"mark:{mark}" for mark in found))
        if self._config.injection_marks == "block":
            raise InjectionMarked(
                f"the answer of {route.server} looks aimed at the model ({', '.join(found)}), so it is withheld",
                remedy="look at the server; injection_marks in [interceptors] decides about this check",
            )
        result = reply.get("result")
        if isinstance(result, dict):
            meta = result.get("_meta")
            result["_meta"] = {**(meta if isinstance(meta, dict) else {}), META_KEY: found}
        return encode(reply)
