"""Azure's sizes of virtual machines, as its documentation lists them: CPUs and memory in MiB."""

from __future__ import annotations

import re

_CLASSIC = {"extrasmall": "a0", "small": "a1", "medium": "a2", "large": "a3", "extralarge": "a4"}
_GIB = {
    "a0": (1, 0.75), "a1": (1, 1.75), "a2": (2, 3.5), "a3": (4, 7), "a4": (8, 14), "a5": (2, 14), "a6": (4, 28),
    "a7": (8, 56), "a8": (8, 56), "a9": (16, 112), "a10": (8, 56), "a11": (16, 112),
    "a1_v2": (1, 2), "a2_v2": (2, 4), "a4_v2": (4, 8), "a8_v2": (8, 16), "a2m_v2": (2, 16), "a4m_v2": (4, 32),
    "a8m_v2": (8, 64),
    "d1": (1, 3.5), "d2": (2, 7), "d3": (4, 14), "d4": (8, 28), "d11": (2, 14), "d12": (4, 28), "d13": (8, 56),
    "d14": (16, 112),
    "d1_v2": (1, 3.5), "d2_v2": (2, 7), "d3_v2": (4, 14), "d4_v2": (8, 28), "d5_v2": (16, 56), "d11_v2": (2, 14),
    "d12_v2": (4, 28), "d13_v2": (8, 56), "d14_v2": (16, 112), "d15_v2": (20, 140),
    "d2_v3": (2, 8), "d4_v3": (4, 16), "d8_v3": (8, 32), "d16_v3": (16, 64), "d32_v3": (32, 128),
    "d48_v3": (48, 192), "d64_v3": (64, 256),
    "e2_v3": (2, 16), "e4_v3": (4, 32), "e8_v3": (8, 64), "e16_v3": (16, 128), "e32_v3": (32, 256),
    "e48_v3": (48, 384), "e64_v3": (64, 432),
    "f1": (1, 2), "f2": (2, 4), "f4": (4, 8), "f8": (8, 16), "f16": (16, 32),
    "g1": (2, 28), "g2": (4, 56), "g3": (8, 112), "g4": (16, 224), "g5": (32, 448),
    "h8": (8, 56), "h16": (16, 112), "h8m": (8, 112), "h16m": (16, 224), "h16r": (16, 112), "h16mr": (16, 224),
}  # fmt: skip
DEFAULT = "Small"


def size_of(name: str) -> tuple[int, int] | None:
    """(CPUs, MiB) of ``Small``, ``A5``, ``Standard_D2_v2``, ``Basic_A1``; None if there is no such size."""
    bare = re.sub(r"^(?:standard|basic)_|_promo$", "", name.strip().casefold())
    bare = re.sub(r"^(d|g|f)s([0-9])|^(e[0-9]+|d[0-9]+|f[0-9]+)s(?=_|$)", r"\1\3\2", bare)  # with SSDs: DS3, D4s_v3
    found = _GIB.get(_CLASSIC.get(bare, bare))
    return (found[0], int(found[1] * 1024)) if found else None


def memory_text(mib: int) -> str:
    return f"{mib // 1024}GiB" if mib % 1024 == 0 else f"{mib}MiB"
