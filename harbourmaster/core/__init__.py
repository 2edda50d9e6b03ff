"""What every package may import: errors, settings, digests, atomic files, audit.  Imports no other package of the project."""
