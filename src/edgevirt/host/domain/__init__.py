"""What the domains of all hypervisors have in common: who watches over them."""
