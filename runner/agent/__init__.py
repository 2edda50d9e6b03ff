"""The agent loop: a model, tools, a task, a budget.

``loop.run`` is the whole of it and does no I/O: the model (``models``) and the tools (``tools``) are handed in, what happens
is told as it happens (``events``), and a ``Report`` says at the end what came of it.
"""
