"""Builds the node's operating system, and images of apps.

`commands` has the verbs, `build` says which step needs which, `cache` skips those that are done.
A build fetches `packages` and makes the `parts` of the root image of them; `release` gives it out
on `disks`. `recipe` says what an image is made of, and `files` are its own. `machine` starts in
QEMU what was built. `eci` makes images of apps, and needs nothing of all this.
"""
