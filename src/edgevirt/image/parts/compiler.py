"""Makes the small programs in C that run where there is no library, with a locked compiler."""

from __future__ import annotations

from pathlib import Path

from edgevirt.image.programs import Tools


def compile_alone(compiler: Tools, source: Path, out: Path) -> None:
    """For x86-64; it needs nothing but the kernel. The same source makes the same bytes.

    Raises ProgramError.
    """
    library = next(compiler.root.glob("usr/lib/*/tcc"))
    options = ("-B", library, "-nostdlib", "-static", "-Wall", "-Werror")
    compiler.run("tcc", *options, "-o", out, source)
    out.chmod(0o755)
