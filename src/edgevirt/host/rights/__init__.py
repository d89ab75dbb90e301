"""How processes lose the rights that they do not need."""
