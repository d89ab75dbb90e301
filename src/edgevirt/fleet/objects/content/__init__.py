"""What nodes fetch, from where, and the data that they keep: Datastore, Image, Volume."""
