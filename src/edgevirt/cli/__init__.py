"""Verbs over the client: kubectl's, for people without kubectl, and a few of the edge's own."""
