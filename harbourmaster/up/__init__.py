"""What `hm up`, `down`, `status`, `doctor` and `test` do: find or install an engine, build what is missing, supervise processes."""
