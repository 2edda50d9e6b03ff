"""Which models are loaded, and who waits: policy is pure (``policy``), one object owns all state (``scheduler``)."""
