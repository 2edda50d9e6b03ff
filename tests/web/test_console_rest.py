"""REST and the registry API: what the pages show and change, for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.records import EntryRecord
from catalog.sources import serverjson
from harbourmaster.core import audit
from harbourmaster.core.secrets import SecretId, SecretStore
from tests.web.conftest import Console, entry, import_entries

UPSTREAM = b'{ "name" : "com.example/buoy","version":"1.0.0","description":"A caf\\u00e9", "x": 1.50e+3 }'


def test_search_gives_what_the_page_shows(console: Console) -> None:
    api = console.bearer("viewer")
    page = api.get("/api/servers", params={"q": "tiem zone", "source": "starter"}).json()
    assert page["hits"][0]["name"] == "time"
    assert page["corrected"]
    assert page["facets"]["tier"]["built"] >= 1
    none = api.get("/api/servers", params={"permission": "no-network", "tier": "community", "q": "time"}).json()
    assert none["total"] == 0
    wrong = api.get("/api/servers", params={"evidence": "blessed"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "search.invalid")


def test_one_server_with_everything_that_is_known(console: Console) -> None:
    api = console.bearer("viewer")
    found = api.get("/api/servers/papered").json()
    assert [t["name"] for t in found["tools"]] == ["tide", "chart"]
    assert {e["kind"] for e in found["images"][0]["evidence"]} == {"signature", "sbom", "provenance", "listing"}
    assert found["parameters"]["depth"]["minimum"] == 1
    assert [(s["name"], s["held"]) for s in found["secrets"]] == [("papered.key", False)]
    assert found["enabled"] is True
    assert [p["name"] for p in api.get("/api/servers/papered/packages").json()] == ["anchor"]
    missing = api.get("/api/servers/com.example/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "entry.unknown")
    assert missing.json()["error"]["remedy"]


def test_servers_are_switched_configured_and_given_secrets(console: Console) -> None:
    api = console.bearer("operator")
    assert api.post("/api/locked/time/enable").json() == {"enabled": True, "changed": True}
    assert api.post("/api/locked/time/enable").json() == {"enabled": True, "changed": False}
    assert console.locked("time").enabled
    unbuilt = api.post("/api/locked/git/enable").json()["error"]
    assert (unbuilt["code"], unbuilt["remedy"]) == ("server.unknown", "hm up --servers git")

    assert api.put("/api/locked/papered/config", json={"values": {"depth": "7"}}).json() == {"config": {"depth": 7}}
    bad = api.put("/api/locked/papered/config", json={"values": {"depth": "deep"}})
    assert bad.status_code == 400
    unknown = api.put("/api/locked/papered/config", json={"values": {"sails": "3"}}).json()["error"]
    assert unknown["code"] == "profile.config_invalid"

    answer = api.put("/api/locked/papered/secrets/papered.key", json={"value": "s3cret-value"})
    assert answer.json() == {"set": True}
    assert SecretStore.of(console.settings).get(SecretId("papered", "papered.key")) == "s3cret-value"
    assert "s3cret-value" not in api.get("/api/servers/papered").text + api.get("/api/audit").text
    assert api.put("/api/locked/papered/secrets/other", json={"value": "v"}).json()["error"]["code"] == "secret.unknown"
    assert api.delete("/api/locked/papered/secrets/papered.key").json() == {"set": False}


def test_what_is_done_is_on_record_with_who_did_it(console: Console) -> None:
    console.bearer("operator").post("/api/locked/papered/disable")
    last = audit.tail(console.settings.audit_dir, 1)[0]
    wanted = {
        "kind": "console",
        "event": "disable",
        "principal": "operator.test",
        "role": "operator",
        "server": "papered",
    }
    assert wanted.items() <= last.items()


def test_a_change_is_approved_by_its_pin_alone(console: Console) -> None:
    api = console.bearer()
    held = api.get("/api/changes").json()
    assert [h["name"] for h in held] == ["time"]
    stale = api.post("/api/changes/time/approve", json={"pin": "sha256:" + "0" * 64})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "console.stale")
    assert console.locked("time").pin != held[0]["pin"]
    assert api.post("/api/changes/time/approve", json={"pin": held[0]["pin"]}).status_code == 200
    assert console.locked("time").pin == held[0]["pin"]
    assert api.get("/api/changes").json() == []


def test_profiles_sources_and_clients(console: Console, tmp_path: Path) -> None:
    api = console.bearer()
    assert api.post("/api/profiles", json={"name": "pilot", "servers": ["papered"]}).json() == {"created": "pilot"}
    rows = {row["name"]: row for row in api.get("/api/profiles").json()}
    assert (rows["pilot"]["path"], rows["pilot"]["tools"]) == ("/mcp/pilot", 2)
    again = api.post("/api/profiles", json={"name": "pilot"}).json()["error"]
    assert again["code"] == "profile.exists"
    assert api.delete("/api/profiles/pilot").json() == {"removed": "pilot"}

    nowhere = api.post("/api/sources", json={"name": "gone", "kind": "servers", "location": str(tmp_path)}).json()
    assert nowhere["error"]["code"] == "source.unreadable"
    assert "gone" in {s["name"] for s in api.get("/api/sources").json()}
    assert api.delete("/api/sources/gone").json() == {"removed": "gone"}
    assert api.post("/api/sources/starter/sync").json()

    cursor = next(c for c in api.get("/api/clients").json() if c["name"] == "cursor")
    assert "Bearer hm_" in cursor["settings"]
    assert "Bearer <token>" in console.bearer("viewer").get("/api/clients").text
    assert api.post("/api/clients/cursor/connect").status_code == 200
    assert api.post("/api/clients/netscape/connect").json()["error"]["code"] == "client.unknown"


def test_the_record_is_searched_and_checked(console: Console) -> None:
    console.record_call(server="beacon")
    api = console.bearer("viewer")
    assert [r["server"] for r in api.get("/api/audit", params={"q": "server=beacon", "since": "1h"}).json()] == [
        "beacon"
    ]
    assert api.get("/api/calls", params={"limit": 1}).json()[0]["server"] == "beacon"
    assert api.get("/api/audit", params={"since": "yesterday"}).json()["error"]["code"] == "usage"
    assert api.get("/api/audit/verify").json()["records"] >= 1


def test_what_does_not_answer_is_said_with_its_code(console: Console) -> None:
    api = console.bearer("viewer")
    down = api.get("/api/models")
    assert (down.status_code, down.json()["error"]["code"]) == (503, "runner.down")
    engine = api.get("/api/sandboxes")
    assert engine.status_code == 503
    assert engine.json()["error"]["code"].startswith("engine.")
    assert api.get("/api/underway").json() is None
    assert api.get("/api/status").json()["running"] is False
    assert {"home", "engine"} <= {f["name"] for f in api.get("/api/health").json()}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/profiles", {"name": "x", "colour": "red"}),
        ("/api/profiles", []),
        ("/api/changes/time/approve", {}),
        ("/api/models/chat", {"model": "m", "messages": [{"role": "system", "content": "x"}]}),
    ],
)
def test_a_body_that_says_something_else_is_refused(console: Console, path: str, body: object) -> None:
    answer = console.bearer().post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "console.form")


def test_openapi_has_every_path_of_rest_and_of_the_registry(console: Console) -> None:
    described = console.bearer("viewer").get("/api/openapi.json").json()["paths"]
    for path in ("/api/servers", "/api/locked/{name}/enable", "/api/models/pull", "/v0.1/servers", "/v0/servers"):
        assert path in described
    assert not [path for path in described if path.startswith(("/do/", "/enter"))]


# -- the MCP registry API


def test_the_registry_serves_what_came_in_as_the_bytes_it_came_in_as(console: Console) -> None:
    name = "com.example/buoy"
    record: EntryRecord = entry(
        name, document=UPSTREAM, media_type=serverjson.MEDIA_TYPE, version="1.0.0", images=(), title="Buoy"
    )
    import_entries(console.harbour, "upstream", record)
    anyone = console.client()  # no login: clients of registries have none
    for version in ("v0.1", "v0"):
        listed = anyone.get(f"/{version}/servers", params={"search": "buoy"})
        assert UPSTREAM in listed.content
        assert listed.json()["metadata"]["count"] == 1
        assert UPSTREAM in anyone.get(f"/{version}/servers/com.example%2Fbuoy/versions/latest").content
        assert anyone.get(f"/{version}/servers/com.example%2Fbuoy/versions").json()["metadata"]["count"] == 1
    assert anyone.get("/v0.1/servers", params={"cursor": "nonsense"}).json()["error"]["code"] == "search.invalid"
    assert anyone.get("/v0.1/servers/none/versions/latest").status_code == 404
    assert anyone.get("/v0.1/servers", params={"limit": "lots"}).status_code == 400
    meta = anyone.get("/v0.1/servers/com.example%2Fbuoy/versions/latest").json()["_meta"]
    assert json.dumps(meta).count("dev.harbourmaster/catalog") == 1


def test_publishing_needs_the_role_admin_and_is_on_record(console: Console) -> None:
    image = {"registryType": "oci", "identifier": f"ghcr.io/example/lamp@sha256:{'b' * 64}"}
    document = json.dumps({"name": "com.example/lamp", "description": "x", "version": "1.0.0", "packages": [image]})
    sent = {"content": document, "headers": {"content-type": "application/json"}}
    assert console.client().post("/v0.1/publish", **sent).status_code == 401
    assert console.bearer("operator").post("/v0.1/publish", **sent).status_code == 403
    published = console.bearer().post("/v0.1/publish", **sent)
    assert published.status_code == 200
    assert document in published.text
    assert document in console.client().get("/v0/servers/com.example%2Flamp/versions/latest").text
    again = console.bearer().post("/v0.1/publish", **sent)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "publish.exists")

    gone = console.bearer().patch("/v0.1/servers/com.example%2Flamp/versions/1.0.0/status", json={"status": "deleted"})
    assert gone.status_code == 200
    assert console.client().get("/v0.1/servers/com.example%2Flamp/versions/latest").status_code == 404
    events = [r["event"] for r in console.bearer().get("/api/audit", params={"q": "kind=console"}).json()]
    assert {"publish", "publish_status"} <= set(events)
