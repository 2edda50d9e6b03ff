"""Measurements; each prints a Markdown table."""
