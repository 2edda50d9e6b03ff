"""Dynamic tools: a client finds, adds, configures and executes tools in a conversation (docs/dynamic-tools.md)."""
