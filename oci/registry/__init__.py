"""Registries: credentials for them, and `oci.registry.store.Registry`, the store that one repository is.

Nothing is imported here: oras and requests take a while, and whoever only logs in or out needs neither.
"""
