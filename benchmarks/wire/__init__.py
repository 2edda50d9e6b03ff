"""What the gateway benchmark runs against."""
