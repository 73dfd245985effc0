"""How well integrals over atoms must sum to what they are parts of, to be labels."""

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.topology.graphs import atom_label

WORST = {"hirshfeld": 1e-4, "mbis": 1e-4, "qtaim": 1e-3}
"""Hartree; geometries whose atoms miss the total energy by more are rejected."""

WORST_ATOM = 2e-3
"""Hartree; topological atoms sum well whatever their surfaces: none may have a larger |L(A)|."""


def require_partition(partition: str) -> None:
    """Refuse a partition that there is not."""
    if partition not in WORST:
        raise LabelError(f"no partition {partition!r}: use one of {', '.join(WORST)}")


def badly_integrated(partition: str, found, numbers: np.ndarray) -> str:
    """Why integrals over atoms are not good enough for labels, in words; empty where they are.

    Parameters
    ----------
    partition : str
    found : AtomicProperties
    numbers : (N,) int array
        Atomic numbers.
    """
    if abs(found.excess) > WORST[partition]:
        return (
            f"its {partition} atoms miss the total energy by "
            f"{found.excess * HARTREE_KJ:.2f} kJ/mol (at most {WORST[partition] * HARTREE_KJ:.2f})"
        )
    worst = int(np.argmax(found.errors))
    if partition == "qtaim" and found.errors[worst] > WORST_ATOM:
        return (
            f"its topological {atom_label(worst, numbers)} has |L| = "
            f"{found.errors[worst]:.1e} Ha (at most {WORST_ATOM:.0e})"
        )
    return ""
