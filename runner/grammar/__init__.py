"""Grammars (GBNF, llama.cpp's ``grammars/README.md``) from JSON schemas."""
