"""Objects judged among the others of their project: what they name, and cannot share."""
