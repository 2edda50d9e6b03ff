"""Learn mode: one run of a server with nothing forbidden but harm, and the least profile that it needs."""
