"""Locked-down containers: profile to engine, stdio over the attach socket, limits, reaper."""
