"""Build the walls around a guest, from an OCI runtime spec to a running process."""
