"""What nodes tell becomes the statuses of objects: who reads it, and what each kind makes of it."""
