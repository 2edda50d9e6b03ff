"""What the gateway tells of itself: metrics that are read, traces that are sent.  Argument values only where asked for."""
