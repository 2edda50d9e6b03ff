"""The data plane: edges, sessions, routing, leases, lock."""
