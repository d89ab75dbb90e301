"""Disks and CDs that a machine boots from: GRUB, partitions, an ISO 9660 volume."""
