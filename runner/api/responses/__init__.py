"""OpenAI's Responses API (API reference, "Responses"): every response is a run of the agent loop.

``request`` reads what was asked, ``items`` makes what is answered, ``kept`` remembers it, ``servers`` says which MCP servers may
be used, ``endpoint`` puts them together.
"""
