"""HTTP to one registry, on ``oras``' provider: its addresses and uploads, with our own rules for every request.

No request carries credentials to another origin, follows a redirect to plain HTTP, waits without end, or reads more than
it was told to expect.  ``oras``' own retry sleeps for minutes on any failure; ours tries reads thrice, quickly.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from oras.container import Container
from oras.provider import Registry

from harbourmaster.core.digests import CHUNK
from registry.errors import (
    RemoteInsecure,
    RemoteLied,
    RemoteNotFound,
    RemoteRefused,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from registry.oci.auth import RegistryAuth, keep_headers
from registry.oci.reference import Reference, is_loopback

TIMEOUT_S = (10, 60)  # connect; the longest silence while reading
ATTEMPTS = 3  # of requests that change nothing
BACKOFF_S = 0.2  # doubled each time
MAX_REDIRECTS = 5  # blob stores behind registries need one
MAX_ERROR_BYTES = 64 << 10
_AGAIN = (requests.ConnectionError, requests.Timeout)


class Transport(Registry):  # type: ignore[misc]
    """One repository of one registry."""

    def __init__(
        self, reference: Reference, *, plain_http: bool = False, credentials: tuple[str, str] | None = None
    ) -> None:
        loopback = is_loopback(reference.api_host)
        super().__init__(hostname=reference.api_host, insecure=plain_http or loopback)
        self.reference = reference
        self.auth = RegistryAuth(reference.api_host, self.session, self._tls_verify)
        if credentials:
            self.auth.set_basic_auth(*credentials)
        else:
            self.auth.load_configs(self.container())
        self._origin = f"{self.prefix}://{reference.api_host}"

    def close(self) -> None:
        """urllib3 leaves a pool's sockets to the garbage collector, and an error's traceback may hold the pool for long."""
        for adapter in self.session.adapters.values():
            pools = adapter.poolmanager.pools
            for key in pools.keys():  # noqa: SIM118 - not a dict: iterating over it is not allowed
                pools[key].close()
        self.session.close()

    def container(self, version: str = "") -> Container:
        return Container(self.reference.at(version or self.reference.version))

    def url(self, path: str) -> str:
        """``path`` below this repository: ``manifests/latest``."""
        return f"{self._origin}/v2/{self.reference.name}/{path}"

    # -- requests

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        stream: bool = True,
    ) -> requests.Response:
        """As ``oras``' method of this name, which its uploads call.  Any status but 401, 403, 429 and 5xx is returned."""
        response = self._send(url, method, data, headers or {})
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code == 401 and challenge and self._same_origin(url):
            response.close()
            self.auth.answer(challenge)
            if data is not None and not isinstance(data, bytes):
                data.seek(0)
            response = self._send(url, method, data, headers or {})
        checked = self._checked(response)
        if method != "GET" and checked.ok:
            checked.raw.read(MAX_ERROR_BYTES)  # of no interest, but the connection can be used again
        return checked

    def _send(self, url: str, method: str, data: Any, headers: dict[str, str]) -> requests.Response:
        for _ in range(MAX_REDIRECTS):
            response = self._once(url, method, data, headers)
            if not response.is_redirect or method not in ("GET", "HEAD"):
                return response
            response.close()
            url = self._redirected(url, response.headers["Location"])
        raise self._lied("it redirects again and again")

    def _once(self, url: str, method: str, data: Any, headers: dict[str, str]) -> requests.Response:
        sent = {"Accept-Encoding": "identity", **headers}
        if self.auth.header and self._same_origin(url):
            sent["Authorization"] = self.auth.header
        for attempt in range(ATTEMPTS if method in ("GET", "HEAD") else 1):
            try:
                response: requests.Response = self.session.request(
                    method,
                    url,
                    data=data,
                    headers=sent,
                    stream=True,
                    auth=keep_headers,
                    verify=self._tls_verify,
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                )
                return response
            except _AGAIN as e:
                failure = e
                time.sleep(BACKOFF_S * 2**attempt if attempt + 1 < ATTEMPTS and method in ("GET", "HEAD") else 0)
            except (requests.RequestException, OSError) as e:
                raise self._lied(f"its answer cannot be read: {e}") from e
        raise RemoteUnavailable(
            f"{self.reference.host} does not answer: {_plainly(failure)}",
            remedy="check the name and the network, then try again",
        ) from failure

    def _redirected(self, old: str, location: str) -> str:
        url = urljoin(old, location)
        parts = urlsplit(url)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and (is_loopback(parts.netloc) or self._same_origin(url))
        ):
            raise RemoteInsecure(
                f"{self.reference.host} redirects to {url[:200]!r}, which is not HTTPS",
                remedy="do not use this registry",
            )
        return url

    def _same_origin(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" == self._origin

    def _checked(self, response: requests.Response) -> requests.Response:
        status = response.status_code
        if status in (401, 403):
            raise RemoteUnauthorized(
                f"{self.reference.host} does not let us use {self.reference.name}{_said(response)}",
                remedy=f"log in: docker login {self.reference.host}",
            )
        if status == 429 or status >= 500:
            raise RemoteUnavailable(
                f"{self.reference.host} answers {status}{_said(response)}", remedy="try again later", status=status
            )
        return response

    # -- reading

    def get(self, path: str, *, accept: str = "*/*") -> requests.Response:
        """A streamed answer with status 200; raises ``RemoteNotFound``."""
        response = self.do_request(self.url(path), headers={"Accept": accept}, stream=True)
        if response.status_code == 404:
            response.close()
            raise RemoteNotFound(
                f"{self.reference.host}/{self.reference.name} has no {path}",
                remedy="check name, tag and digest",
                path=path,
            )
        self.expect(response, 200)
        return response

    def body(self, response: requests.Response, limit: int) -> Iterator[bytes]:
        """The answer's bytes as sent; raises ``RemoteLied`` when it breaks off or goes over ``limit``."""
        count = 0
        with response, self._reading():
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                count += len(chunk)
                if count > limit:
                    raise self._lied(f"it sends more than the {limit} bytes that were to be expected")
                yield chunk

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (urllib3.exceptions.HTTPError, requests.RequestException, OSError) as e:
            raise self._lied(f"its answer breaks off: {e}") from e

    def expect(self, response: requests.Response, *statuses: int) -> None:
        if response.status_code not in statuses:
            raise RemoteRefused(
                f"{self.reference.host} refuses {response.request.method} with {response.status_code}{_said(response)}",
                remedy="see what the registry says; it may lack support for what was asked",
                status=response.status_code,
            )

    def _lied(self, what: str) -> RemoteLied:
        return RemoteLied(
            f"{self.reference.host}: {what}",
            remedy="try again; if it stays so, do not use this registry",
            host=self.reference.host,
        )

    # -- writing

    def put_upload(self, blob: str, container: Container, layer: dict[str, Any]) -> requests.Response:
        """``oras`` reads the whole blob into memory here; this streams it."""
        started = self.do_request(self.url("blobs/uploads/"), "POST", headers={"Content-Length": "0"})
        self.expect(started, 202)
        target = urljoin(started.url, started.headers.get("Location", ""))
        self._redirected(started.url, target)
        parts = urlsplit(target)
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", layer["digest"])])
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(layer["size"])}
        with open(blob, "rb") as f:  # noqa: PTH123 - oras hands paths as text
            response = self.do_request(urlunsplit(parts._replace(query=query)), "PUT", data=f, headers=headers)
        self.expect(response, 201)
        return response

    def put_manifest(self, data: bytes, media_type: str, version: str) -> requests.Response:
        """Upload exactly these bytes (``oras`` would write the JSON anew, under another digest)."""
        response = self.do_request(
            self.url(f"manifests/{version}"), "PUT", data=data, headers={"Content-Type": media_type}
        )
        self.expect(response, 201)
        return response


def _said(response: requests.Response) -> str:
    """The registry's own words (distribution-spec, "error codes"), bounded and on one line; empty where it has none."""
    try:
        errors = json.loads(response.raw.read(MAX_ERROR_BYTES, decode_content=True))["errors"]
        text = "; ".join(f"{e.get('code', '')} {e.get('message', '')}".strip() for e in errors)
    except Exception:  # whatever a registry sends as its error is only for show
        return ""
    finally:
        response.close()
    return ": " + "".join(c if c.isprintable() else " " for c in text)[:300] if text else ""


def _plainly(failure: object) -> str:
    """The system's own words, which the HTTP library wraps in four layers of its own."""
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(failure))
    return found[1] if found else str(failure)
