"""The node's own software, and what measuring it comes to: OSImage, AttestationPolicy."""
