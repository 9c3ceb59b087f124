"""A tenant's front door: what its web server is told, as pure functions."""
