"""Typed client of the fleet's operators' API: what the command line stands on.

The API follows Kubernetes' conventions, so objects are plain mappings here, as the server sent
them: a client that knows no field of a kind works with every kind.
"""
