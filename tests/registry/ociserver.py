"""A small registry after the OCI distribution-spec 1.1, referrers API included, over real HTTP; and it can be made to lie.

with OciServer(auth="bearer") as server:
    server.lies.add("truncated")
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from harbourmaster.core.digests import sha256

INDEX = "application/vnd.oci.image.index.v1+json"
USER, PASSWORD = "sailor", "anchors aweigh"
PAGE = 2  # referrers on one page, with the lie "pages"


class OciServer:
    """State in memory; ``requests`` holds ``(method, path, Authorization)`` of all that came in."""

    def __init__(self, *, auth: str = "", referrers_api: bool = True) -> None:
        self.auth, self.referrers_api = auth, referrers_api
        self.lies: set[str] = set()
        self.elsewhere = ""  # where the lie "redirect" points
        self.realm = ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}  # repository -> tag or digest -> (type, bytes)
        self.tokens: dict[str, str] = {}  # token -> scope
        self.requests: list[tuple[str, str, str]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": self}))
        self._http.daemon_threads = False
        self.host = f"127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> OciServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def referrers(self, repository: str, subject: str) -> list[dict[str, Any]]:
        found = []
        for name, (media_type, data) in self.manifests.get(repository, {}).items():
            body = json.loads(data)
            if name.startswith("sha256:") and body.get("subject", {}).get("digest") == subject:
                found.append(
                    {
                        "mediaType": media_type,
                        "digest": name,
                        "size": len(data),
                        "artifactType": body.get("artifactType", ""),
                        "annotations": body.get("annotations", {}),
                    }
                )
        return found


class _Handler(BaseHTTPRequestHandler):
    registry: OciServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.route
        raise AttributeError(name)

    def route(self) -> None:
        server, url = self.registry, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        server.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        if url.path == "/token":
            return self.token(parse_qs(url.query))
        if "500" in server.lies:
            return self.error(500, "UNKNOWN", "out of order\x1b[31m")
        match = re.fullmatch(r"/v2/(?P<name>.+?)/(?P<kind>blobs|manifests|referrers)/(?P<rest>.+|)", url.path)
        if not match:
            return self.answer(200 if url.path == "/v2/" else 404)
        if not self.allowed(match["name"]):
            return None
        return getattr(self, match["kind"])(match["name"], match["rest"], parse_qs(url.query), body)

    # -- authentication

    def allowed(self, name: str) -> bool:
        server = self.registry
        header = self.headers.get("Authorization", "")
        wanted = f"repository:{name}:{'pull' if self.command in ('GET', 'HEAD') else 'pull,push'}"
        if server.auth == "basic":
            if header == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
                return True
            self.answer(401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
            return False
        if server.auth == "bearer":
            scope = server.tokens.get(header.removeprefix("Bearer "), "")
            if scope in (wanted, f"repository:{name}:pull,push"):
                return True
            realm = server.realm or f"http://{server.host}/token"
            self.answer(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="{wanted}"'})
            return False
        return True

    def token(self, query: dict[str, list[str]]) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            return self.answer(401)
        token = uuid.uuid4().hex
        self.registry.tokens[token] = query["scope"][0]
        return self.answer(200, json.dumps({"token": token}).encode())

    # -- blobs

    def blobs(self, name: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        server = self.registry
        if self.command == "POST":
            return self.answer(202, headers={"Location": f"/v2/{name}/blobs/uploads/{uuid.uuid4()}?state=x"})
        if self.command == "PUT":
            digest = query["digest"][0]
            if sha256(body) != digest:
                return self.error(400, "DIGEST_INVALID", "not what was announced")
            server.blobs[digest] = body
            return self.answer(201, headers={"Location": f"/v2/{name}/blobs/{digest}"})
        data = server.blobs.get(rest)
        if data is None:
            return self.error(404, "BLOB_UNKNOWN", rest)
        if self.command == "GET" and "redirect" in server.lies:
            return self.answer(307, headers={"Location": server.elsewhere.replace("{digest}", rest)})
        return self.answer(200, self.spoiled(data))

    def spoiled(self, data: bytes) -> bytes:
        if self.command == "GET":
            if "other bytes" in self.registry.lies:
                return bytes([data[0] ^ 1]) + data[1:]
            if "longer" in self.registry.lies:
                return data + b"more"
            if "shorter" in self.registry.lies:
                return data[:-1]
        return data

    # -- manifests and referrers

    def manifests(self, name: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        server = self.registry
        known = server.manifests.setdefault(name, {})
        if self.command == "PUT":
            digest = sha256(body)
            if rest.startswith("sha256:") and rest != digest:
                return self.error(400, "DIGEST_INVALID", rest)
            known[digest] = known[rest] = (self.headers["Content-Type"], body)
            said = sha256(b"something else") if "stored otherwise" in server.lies else digest
            headers = {"Docker-Content-Digest": said}
            subject = json.loads(body).get("subject")
            if subject and server.referrers_api:
                headers["OCI-Subject"] = subject["digest"]
            return self.answer(201, headers=headers)
        if rest not in known:
            return self.error(404, "MANIFEST_UNKNOWN", rest)
        media_type, data = known[rest]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": sha256(data)}
        if "other manifest" in server.lies:
            data = data.replace(b'"schemaVersion":2', b'"schemaVersion": 2')
        if "other manifest, told so" in server.lies:
            data = data.replace(b'"schemaVersion":2', b'"schemaVersion": 2')
            headers["Docker-Content-Digest"] = sha256(data)
        if "huge manifest" in server.lies:
            data = data + b" " * (5 << 20)
        return self.answer(200, data, headers=headers)

    def referrers(self, name: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        server = self.registry
        if not server.referrers_api:
            return self.error(404, "NOT_FOUND", "no such endpoint")
        found = server.referrers(name, rest)
        headers = {"Content-Type": INDEX}
        if "foreign referrer" in server.lies:
            found = [r for s in {rest, *server.manifests[name]} for r in server.referrers(name, s)]
        if "pages" in server.lies:
            start = int(query.get("from", ["0"])[0])
            if start + PAGE < len(found):
                headers["Link"] = f'</v2/{name}/referrers/{rest}?from={start + PAGE}>; rel="next"'
            found = found[start : start + PAGE]
        if "pages elsewhere" in server.lies:
            headers["Link"] = '<http://other.example/v2/x/referrers/y>; rel="next"'
        if "pages without end" in server.lies:
            headers["Link"] = f'</v2/{name}/referrers/{rest}?again>; rel="next"'
        return self.answer(
            200, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode(), headers=headers
        )

    # -- answers

    def error(self, status: int, code: str, message: str) -> None:
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())

    def answer(self, status: int, body: bytes = b"", *, headers: dict[str, str] | None = None) -> None:
        lies = self.registry.lies if self.command == "GET" and status == 200 and "/blobs/" in self.path else set()
        claimed = len(body) + (100 if "truncated" in lies else 0)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if "truncated" in lies:
            self.close_connection = True
