"""The front door: command line, settings, errors and the composition root."""

__version__ = "0.1.0"
