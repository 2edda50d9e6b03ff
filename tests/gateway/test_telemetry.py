"""What the gateway tells of itself: metrics as Prometheus reads them, traces as a collector gets them on the wire."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from gateway.gateway import Gateway
from gateway.telemetry.config import TelemetryConfig, TelemetryInvalid
from gateway.telemetry.export import BATCH, QUEUE, TRIES, Exporter
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import begin
from harbourmaster.core.logs import JsonFormatter
from harbourmaster.core.settings import Settings
from tests.gateway.elsewhere import Reply, Request, greeting, result
from tests.gateway.harness import Http, World, enveloped, rpc, serving, tool_call, until
from tests.gateway.test_remote_http import far

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOKEN = "ghp_" + "0a1B2c3D4e" * 4


@dataclass
class Collector:
    """An OTLP/HTTP receiver; ``status``: what it answers with."""

    url: str = ""
    status: int = 200
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}" % self.status)
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for resource in parsed(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def parsed(body: bytes) -> ExportTraceServiceRequest:
    """As the protocol's own message; unknown fields and wrong types are errors.  Its JSON has ids in hex."""

    def as_protobuf(value: Any) -> Any:
        if isinstance(value, list):
            return [as_protobuf(each) for each in value]
        if isinstance(value, dict):
            ids = {"traceId", "spanId", "parentSpanId"}
            return {
                k: base64.b64encode(bytes.fromhex(v)).decode() if k in ids else as_protobuf(v) for k, v in value.items()
            }
        return value

    request: ExportTraceServiceRequest = json_format.ParseDict(
        as_protobuf(json.loads(body)), ExportTraceServiceRequest()
    )
    return request


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    async with await asyncio.start_server(collector.serve, "127.0.0.1", 0) as server:
        collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield collector


@contextlib.asynccontextmanager
async def traced(settings: Settings, world: World, **more: Any) -> AsyncIterator[tuple[Collector, Gateway, Http]]:
    """The collector has everything once the gateway has ended."""
    async with collecting() as collector:
        table = {"otlp_endpoint": collector.url, **more}
        async with serving(settings.model_copy(update={"telemetry": table}), world) as (gateway, http):
            yield collector, gateway, http


def about(span: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


async def echoed(http: Http, session: str, **params: Any) -> Any:
    """The ``_meta`` that the server saw."""
    reply = await http.call(session, "tools/call", tool_call("echo", {"text": "x"}, **params))
    return reply["result"]["_meta"]["x-kept"]


# -- traces


async def test_a_trace_goes_from_the_client_through_the_gateway_to_the_server(settings: Settings, world: World) -> None:
    async with traced(settings, world, otlp_headers={"x-key": "k"}) as (collector, gateway, http):
        seen = await echoed(http, await http.initialize(), _meta={"traceparent": PARENT, "tracestate": "a=b"})
        exporter = gateway.traces
        assert exporter is not None
        await exporter.close()
        call, server = collector.spans()
        assert call.trace_id.hex() == server.trace_id.hex() == PARENT.split("-")[1]
        assert call.parent_span_id.hex() == PARENT.split("-")[2]
        assert server.parent_span_id == call.span_id
        assert seen["traceparent"] == f"00-{server.trace_id.hex()}-{server.span_id.hex()}-01"
        assert seen["tracestate"] == call.trace_state == "a=b"
        assert (call.kind, server.kind) == (2, 3)
        assert call.name == "tools/call echo"
        assert call.start_time_unix_nano <= server.start_time_unix_nano <= server.end_time_unix_nano
        assert server.end_time_unix_nano <= call.end_time_unix_nano
        said = about(call)
        assert (said["mcp.method.name"], said["gen_ai.tool.name"], said["harbourmaster.server"]) == (
            "tools/call",
            "echo",
            "alpha",
        )
        assert "error.type" not in said
        assert not any(value == "x" for value in said.values()), "arguments are off unless asked for"
        assert collector.heads[0].startswith("POST /v1/traces HTTP/1.1")
        assert "content-type: application/json" in collector.heads[0].lower()
        assert "x-key: k" in collector.heads[0].lower()
        resource = parsed(collector.bodies[0]).resource_spans[0].resource
        assert {a.key for a in resource.attributes} == {"service.name", "service.version"}


async def test_a_trace_begins_here_where_the_client_has_none(settings: Settings, world: World) -> None:
    async with traced(settings, world) as (collector, gateway, http):
        seen = await echoed(http, await http.initialize())
        assert gateway.traces is not None
        await gateway.traces.close()
        call, server = collector.spans()
        assert call.parent_span_id == b""
        assert seen["traceparent"].split("-")[1:3] == [server.trace_id.hex(), server.span_id.hex()]


async def test_a_refused_call_is_a_span_with_its_code_and_no_server_below(settings: Settings, world: World) -> None:
    async with traced(settings, world) as (collector, gateway, http):
        reader = Http(http.port, gateway.tokens.create("reader", scopes=["list"]))
        await reader.call(await reader.initialize(), "tools/call", tool_call("echo"))
        assert gateway.traces is not None
        await gateway.traces.close()
        [call] = collector.spans()
        assert (about(call)["error.type"], call.status.code) == ("auth.denied", 2)


async def test_arguments_are_in_spans_only_where_asked_for_and_never_with_secrets(
    settings: Settings, world: World
) -> None:
    off = settings.model_copy(update={"interceptors": {"secrets_in_arguments": "report"}})
    async with traced(off, world, arguments=True) as (collector, gateway, http):
        await http.call(await http.initialize(), "tools/call", tool_call("echo", {"text": f"see {TOKEN}"}))
        assert gateway.traces is not None
        await gateway.traces.close()
        said = about(collector.spans()[0])
        assert said["gen_ai.tool.call.arguments"] == '{"text": "see [redacted: github-token]"}'
        assert all(TOKEN.encode() not in body for body in collector.bodies)


@pytest.mark.parametrize("on", [True, False])
async def test_the_header_of_an_http_client_reaches_the_server(settings: Settings, world: World, on: bool) -> None:
    async with collecting() as collector:
        table = {"otlp_endpoint": collector.url} if on else {}
        async with serving(settings.model_copy(update={"telemetry": table}), world) as (_, http):
            session = await http.initialize()
            body = rpc("tools/call", tool_call("echo"))
            reply = await http.request(body=body, Mcp_Session_Id=session, traceparent=PARENT)
            seen = reply.json["result"]["_meta"]["x-kept"]["traceparent"]
            assert seen.split("-")[1] == PARENT.split("-")[1]
            assert (seen == PARENT) is not on
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
            body = rpc("tools/call", enveloped(tool_call("echo")))
            reply = await http.request(body=body, traceparent=PARENT, **headers)
            assert reply.json["result"]["_meta"]["x-kept"]["traceparent"].split("-")[1] == PARENT.split("-")[1]


async def test_nothing_is_added_to_calls_and_nothing_sent_where_no_collector_is_named(http: Http) -> None:
    assert await echoed(http, await http.initialize()) is None


@pytest.mark.parametrize(
    ("said", "trace"),
    [
        (PARENT, PARENT.split("-")[1]),
        (PARENT[:-1] + "0", None),  # the caller does not sample
        ("cc" + PARENT[2:] + "-more", PARENT.split("-")[1]),
        ("00" + PARENT[2:] + "-more", ""),
        ("ff" + PARENT[2:], ""),
        (PARENT.upper(), ""),
        (PARENT.replace(PARENT.split("-")[1], "0" * 32), ""),
        ("x" * 10_000, ""),
        (7, ""),
        (None, ""),
    ],
)
def test_contexts_are_read_as_the_standard_says(said: Any, trace: str | None) -> None:
    span = begin({"_meta": {"traceparent": said}}, TelemetryConfig())
    if trace is None:
        assert span is None
    else:
        assert span is not None
        assert (span.trace == trace) if trace else (span.parent == "" and len(span.trace) == 32)


def test_traces_that_begin_here_are_sampled_at_the_rate_asked_for() -> None:
    assert begin({}, TelemetryConfig(sample=0)) is None
    assert begin({}, TelemetryConfig(sample=1)) is not None
    assert begin({"_meta": {"traceparent": PARENT}}, TelemetryConfig(sample=0)) is not None


# -- the exporter


async def test_a_collector_that_is_busy_gets_the_same_spans_again_and_one_that_refuses_does_not() -> None:
    async with collecting() as collector:
        for status, asked in ((503, TRIES), (400, 1)):
            collector.status, collector.bodies = status, []
            exporter = Exporter(TelemetryConfig(otlp_endpoint=collector.url), "1", every_s=0.01)
            exporter.start()
            exporter.queue([{"traceId": "1" * 32, "spanId": "2" * 16, "name": "n"}])
            await until(lambda: exporter.dropped == 1, "the end of patience")  # noqa: B023
            assert len(collector.bodies) == asked
            assert len(set(collector.bodies)) == 1
            await exporter.close()


async def test_calls_never_wait_for_a_collector_and_what_is_too_much_is_dropped_and_counted() -> None:
    exporter = Exporter(TelemetryConfig(otlp_endpoint="http://127.0.0.1:9"), "1", every_s=60)
    exporter.start()
    for _ in range(QUEUE + 5):
        exporter.queue([{"name": "n"}])
    assert exporter.dropped == 5
    await exporter.close()
    assert exporter.dropped == QUEUE + 5


async def test_what_waits_is_sent_in_batches_when_the_gateway_ends() -> None:
    async with collecting() as collector:
        exporter = Exporter(TelemetryConfig(otlp_endpoint=collector.url), "1", every_s=60)
        exporter.start()
        for number in range(BATCH + 3):
            exporter.queue([{"traceId": "1" * 32, "spanId": f"{number + 1:016x}", "name": "n"}])
        await exporter.close()
        assert [len(parsed(body).resource_spans[0].scope_spans[0].spans) for body in collector.bodies] == [BATCH, 3]
        assert exporter.dropped == 0


@pytest.mark.parametrize(
    "table", [{"otlp_endpoint": "file:///x"}, {"otlp_endpoint": "collector:4318"}, {"sample": 2}, {"endpoint": "x"}]
)
def test_a_configuration_that_is_not_understood_is_refused(table: Any) -> None:
    with pytest.raises(TelemetryInvalid):
        TelemetryConfig.read(table)


# -- metrics


def read(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def key(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


async def test_calls_are_counted_by_how_they_ended_and_timed(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    for number, name in enumerate(("echo", "echo", "fail")):
        await http.call(session, "tools/call", tool_call(name), number)
    await http.call(session, "tools/call", tool_call("echo", {"text": TOKEN}), 9)
    response = await http.request("GET", "/metrics")
    assert (response.status, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = read(response.body)
    calls = found["harbourmaster_calls_total"]
    assert calls[key(server="alpha", method="tools/call", outcome="ok")] == 2
    assert calls[key(server="alpha", method="tools/call", outcome="tool_error")] == 1
    assert found["harbourmaster_failures_total"][key(code="secret.in_arguments")] == 1
    assert found["harbourmaster_findings_total"][key(kind="secret-in-arguments", what="github-token")] == 1
    where = {"server": "alpha", "method": "tools/call"}
    buckets = found["harbourmaster_call_duration_seconds_bucket"]
    assert buckets[key(**where, le="+Inf")] == found["harbourmaster_call_duration_seconds_count"][key(**where)] == 4
    assert found["harbourmaster_sandboxes"][()] == 1
    assert found["harbourmaster_clients"][key(era="handshake")] == 1
    assert found["process_resident_memory_bytes"][()] > 1e6
    assert TOKEN not in response.body.decode()


async def test_metrics_need_a_token_that_may_read_them_and_no_more(http: Http, gateway: Gateway) -> None:
    reader = Http(http.port, gateway.tokens.create("prometheus", scopes=["metrics"]))
    assert (await reader.request("GET", "/metrics")).status == 200
    assert (await http.request("GET", "/metrics", Authorization=None)).status == 401
    caller = Http(http.port, gateway.tokens.create("caller"))
    refused = await caller.request("GET", "/metrics")
    assert (refused.status, refused.json["error"]["data"]["code"]) == (403, "metrics.scope")
    assert (await http.request("POST", "/metrics")).status == 405
    assert (await http.request("GET", "/metrics", Host="evil.example")).status == 421
    session = await reader.initialize()
    assert (await reader.call(session, "tools/list"))["result"]["tools"] == []


async def test_who_knocks_with_wrong_tokens_is_counted_without_what_they_said(http: Http) -> None:
    for token in ("Bearer hm_guess-1", "Bearer hm_guess-2"):
        await http.request(body=rpc("ping"), Authorization=token)
    await http.request("GET", "/healthz", Host="rebound.example")
    text = (await http.request("GET", "/metrics")).body
    found = read(text)["harbourmaster_http_refusals_total"]
    assert found == {key(code="auth.invalid"): 2, key(code="http.wrong_host"): 1}
    assert b"guess" not in text


def test_a_histogram_adds_up() -> None:
    metrics = Metrics()
    for milliseconds in (0.5, 1, 3, 99_999):
        record = {"kind": "call", "server": "a", "method": "m", "outcome": "ok", "duration_ms": milliseconds}
        metrics.recorded(record)
    found = read(metrics.text())
    buckets = {dict(k)["le"]: v for k, v in found["harbourmaster_call_duration_seconds_bucket"].items()}
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.005"], buckets["60.0"], buckets["+Inf"]) == (2, 2, 3, 3, 4)


def test_names_cannot_break_out_of_their_labels() -> None:
    metrics = Metrics()
    odd = 'a"} 1\nharbourmaster_calls_total{server="b\\'
    metrics.recorded({"kind": "call", "server": odd, "method": "m", "outcome": "ok", "duration_ms": 1})
    assert read(metrics.text())["harbourmaster_calls_total"] == {key(server=odd, method="m", outcome="ok"): 1}


# -- remote servers


async def test_a_trace_goes_on_to_a_remote_server_in_its_headers_and_nothing_else_can(settings: Settings) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await reply.send(200, result(request, content=[]))

    async with far(settings, greeting(handler)) as (server, _, http, session):
        for number, said in enumerate((PARENT, f"{PARENT}\r\nx-evil: 1", "x", 7), 1):
            params = tool_call("echo", _meta={"traceparent": said, "tracestate": "a=b"})
            assert "result" in await http.call(session, "tools/call", params, number)
        first, *rest = (request.headers for request in server.asked("tools/call"))
        assert (first["traceparent"], first["tracestate"]) == (PARENT, "a=b")
        assert all(not headers.keys() & {"traceparent", "tracestate", "x-evil"} for headers in rest)


# -- nothing that is said in a call


async def test_neither_logs_nor_metrics_nor_the_audit_nor_spans_hold_what_was_said_in_a_call(
    settings: Settings, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with traced(settings, world) as (collector, gateway, http):
        session = await http.initialize()
        for number, (method, params) in enumerate(
            (
                ("tools/call", tool_call("echo", {"text": "needle"})),
                ("tools/call", tool_call("echo", {"needle": 1})),
                ("tools/call", tool_call("region", {"where": ["needle"]})),
                ("tools/call", tool_call("rpc_error", {"text": "needle"})),
                ("tools/call", tool_call("crash", {"text": "needle"})),
                ("prompts/get", {"name": "greet", "arguments": {"who": "needle"}}),
            )
        ):
            await http.call(session, method, params, number)
        metrics = (await http.request("GET", "/metrics")).body.decode()
        assert gateway.traces is not None
        await gateway.traces.close()
    assert len(world.calls()) == 6
    formatted = [JsonFormatter().format(record) for record in caplog.records]
    assert all(json.loads(line)["message"] for line in formatted)
    for told in (caplog.text, *formatted, metrics, json.dumps(world.records), *map(str, collector.bodies)):
        assert "needle" not in told
