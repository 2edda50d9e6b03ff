"""Connectors: write this gateway into the configuration files of other people's MCP clients, and take it out again."""
