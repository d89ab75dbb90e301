"""What runs for people: App, and AppInstance, which is one App on one node."""
