"""From the body of a request to an object: encodings, patches, who set which field."""
