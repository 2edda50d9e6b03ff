"""What may run and who may call what: trust, bundles, Cedar admission, sandbox profiles."""
