"""Known vulnerabilities: OSV records, matched against what images hold.  Matched when asked, so a new advisory needs no rebuild."""
