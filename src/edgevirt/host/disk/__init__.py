"""The machine's disks: partitions, file systems, slots."""
