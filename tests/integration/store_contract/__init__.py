"""Capabilities of object stores that the engine relies on, as probes of their raw APIs."""
