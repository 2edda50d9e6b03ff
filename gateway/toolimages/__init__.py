"""Servers whose tools are programs in images of their own (entries of type ``poci``)."""
