"""Readers of the formats that entries come in.  Each yields records and reasons; none writes or runs anything."""
