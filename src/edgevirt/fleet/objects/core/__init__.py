"""Kinds that are Kubernetes' own: Namespace, Secret, Event."""
