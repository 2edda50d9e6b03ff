"""Limits of the gateway that no setting changes, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    body_bytes: int = 4 << 20  # a request body; the MCP SDKs' own default
    batch: int = 64  # messages in one JSON-RPC batch
    calls_per_client: int = 256  # in flight at once, per session
    sessions: int = 4096  # handshake sessions in one gateway
    session_idle_s: float = 3600.0  # a session with no request and no stream for this long is forgotten
    backlog_bytes: int = 8 << 20  # unread by one client before its stream is dropped
    backlog_notices: int = 64  # session-wide notifications kept until a client opens a stream
    replay_bytes: int = 1 << 20  # of a session's streams, kept for a client that lost its connection
    replay_s: float = 300.0  # and how long it is kept
    tasks_per_client: int = 1024  # that it may still ask about
    task_s: float = 3600.0  # a sandbox is kept for a task that nobody asks about, unless it says for less long
    park_s: float = 600.0  # how long a call waits for a person's answer (multi-round-trip)
    questions: int = 32  # of one call's server that wait for the client's answers
    questions_per_session: int = 256  # likewise, of all servers of a handshake session
    question_bytes: int = 16 << 20  # that they may have together: one line of a server's, with an image in it
    introduction_bytes: int = 64 << 10  # of what a client says about itself; kept for as long as it is there
    subscriptions: int = 1024  # to resources of one server, by one client
    uri_bytes: int = 8 << 10  # of a resource that is subscribed to; kept likewise
    backlog_notice_bytes: int = 1 << 20  # of those notifications, together
    write_buffer_bytes: int = 1 << 16  # a message larger than this waits until the server reads
    admission_recheck_s: float = 10.0  # how old a verdict may be before a call asks again
    junk_lines: int = 10_000  # a server may print to stdout by mistake, between two answers
    list_pages: int = 100  # of one list of a server, as at the time of listing (registry/listing.py)
    list_items: int = 10_000
    list_rounds: int = 3  # of a list that changes while it is read, the last answer counts
    sweep_s: float = 0.25  # timeouts, vanished clients, idle sandboxes: how often someone looks
    ping_s: float = 15.0  # SSE comment lines, so that proxies keep a silent stream open
    stop_grace_s: float = 2.0  # between closing a server's stdin and killing it


LIMITS = Limits()
