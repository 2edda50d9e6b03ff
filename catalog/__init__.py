"""What can be found: sources, entries, search, vulnerabilities.  Reads everything as if an enemy had written it."""
