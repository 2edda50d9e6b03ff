"""Between messages and text: templates, literal texts, streams, tool calls."""
