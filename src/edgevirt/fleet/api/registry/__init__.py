"""Reads and writes objects by Kubernetes' rules: lists, watches, deletions. Knows no transport."""
