"""Servers that run elsewhere, reached over Streamable HTTP or legacy SSE; docs/remote-servers.md."""
