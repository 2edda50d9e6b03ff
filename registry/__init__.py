"""Servers become images: entries, build, SBOM, provenance, signing; the OCI layout and remote registries."""
