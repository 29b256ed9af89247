"""Instructions of this machine's processor, without torch."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def has_integer_dot_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor is known to have fast dot products of 8-bit integers.

    They are AVX-512 VNNI and AVX-VNNI on x86, and the dot product extension on Arm, which all of
    Apple's processors have.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = set(text.split())
    return bool(flags & {"avx512_vnni", "avx_vnni", "asimddp"})
