"""The console: pages for people, REST for programs, the MCP registry API's read endpoints.  docs/console.md."""
