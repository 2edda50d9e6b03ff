"""Client-facing transports."""
