"""The only code that touches a machine; it decides nothing. A room for each part of the machine,
and what many of them need beside them.

`hypervisor` says what a hypervisor's adapter does; `container`, `kvm` and `xen` are such adapters,
on what `domain` has for all of them. `content` and `volumes` are what an app lies on, `devices`
and `net` what it gets. `boot`, `disk`, `machine` and `tpm` are the machine itself; `rights` is what
processes may not do. `fakes` stand for some of them in tests, held to the same conformance suites.
"""
