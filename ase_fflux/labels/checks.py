"""Whether labels can be true: what physics demands of them, and values far from all others.

Real labels are noisy, so every limit stands well above what was seen and well below what a mistake
makes. With t the tolerance that the labels state (1e-8 hartree for GFN2-xTB, 2e-5 to 2e-4 for
integrals over atoms):

====================================  =======================  ===============================
what                                  limit                    seen in real labels
====================================  =======================  ===============================
net force                             5e-4 + 10 t hartree/bohr  1e-8 (GFN2-xTB), 2e-5 (DFT, unpruned
                                                               grid of (75, 302) points)
net torque                            as the net force, times  1.5e-4 times the radius (public
                                      the radius of the        sets of 300 to 600 K)
                                      molecule (at least 2 bohr)
sum of atomic energies                t hartree
sum of charges, whole and the same    1e-5 + 10 t e            1e-10 (GFN2-xTB)
in all labels
dipole of charges and atomic dipoles  1e-4 + 30 t e bohr       1e-10 (GFN2-xTB)
outliers                              25 times the range of    beyond a Gaussian's 64 standard
                                      the inner 80 percent,    deviations
                                      on either side of it
====================================  =======================  ===============================

Outliers are sought among total energies, the energies and moments of every atom and the largest
component of each gradient, in sets of at least ten labels; energies closer than 0.1 hartree to the
others, components closer than 0.5 hartree/bohr and moments of rank l closer than 0.1 times 3^l
atomic units never count.
"""

from collections.abc import Callable

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import FORCE, HARTREE
from ase_fflux.labels.label import Dataset
from ase_fflux.model.multipoles import MOMENT_NAMES, moment_rank

NET_FORCE, CHARGE, DIPOLE = 5e-4, 1e-5, 1e-4
"""Limits for labels of no tolerance (atomic units)."""
_SMALLEST_RADIUS = 2.0
_FEWEST, _RANGES, _NEAR, _NEAR_GRADIENT = 10, 25.0, 0.1, 0.5


def believe(dataset: Dataset, where: Callable[[int], str] = lambda i: f"label {i + 1}") -> None:
    """Refuse labels that cannot be true.

    Parameters
    ----------
    dataset : Dataset
    where : callable
        Says where the label of a 0-based index stands.

    Raises
    ------
    LabelError
        The first label of a kind that cannot be true, what is wrong with it and what to do.
    """
    for check in (_sums, _forces, _charges, _dipoles, _outliers):
        if found := check(dataset):
            label, text = found
            raise LabelError(f"{where(label)}: {text}")


def _first(excess: np.ndarray, limit) -> int | None:
    """Index of the first value above its limit."""
    wrong = np.flatnonzero(~(excess <= limit))
    return int(wrong[0]) if len(wrong) else None


def _sums(d: Dataset) -> tuple[int, str] | None:
    if d.atomic_energies is None or d.energies is None:
        return None
    excess = np.abs(d.atomic_energies.sum(axis=1) - d.energies)
    label = _first(excess, d.tolerance)
    if label is None:
        return None
    return label, (
        f"atomic energies miss the total energy by {excess[label]:.1e} Ha, more than the "
        f"{d.tolerance:.1e} Ha that the labels state: remove the label, or label it again"
    )


def _forces(d: Dataset) -> tuple[int, str] | None:
    if d.gradients is None:
        return None
    limit = NET_FORCE + 10 * d.tolerance
    net = np.linalg.norm(d.gradients.sum(axis=1), axis=1)
    if (label := _first(net, limit)) is not None:
        return label, (
            f"a net force of {net[label] * FORCE:.2g} eV/A (at most {limit * FORCE:.2g}): the "
            "forces are not those of this geometry alone; remove the label, or label it again"
        )
    centred = d.geometries - d.geometries.mean(axis=1, keepdims=True)
    radius = np.maximum(_SMALLEST_RADIUS, np.linalg.norm(centred, axis=2).max(axis=1))
    torque = np.linalg.norm(np.cross(centred, d.gradients).sum(axis=1), axis=1)
    if (label := _first(torque, limit * radius)) is not None:
        return label, (
            f"a net torque of {torque[label] * HARTREE:.2g} eV (at most "
            f"{limit * radius[label] * HARTREE:.2g}): the forces are turned against the positions, "
            "as where a program reorients its input; take both from the same orientation"
        )
    return None


def _charges(d: Dataset) -> tuple[int, str] | None:
    if d.rank < 0:
        return None
    limit = CHARGE + 10 * d.tolerance
    sums, whole = d.moments[:, :, 0].sum(axis=1), charge_of(d)
    if (label := _first(np.abs(sums - whole), limit)) is None:
        return None
    same = "" if abs(whole - np.median(sums)) <= limit else ", which is not whole"
    return label, (
        f"charges sum to {sums[label]:.6f} e, those of all labels to {np.median(sums):.6f} e "
        f"(median){same}: label it again, with nuclear charges included"
    )


def _dipoles(d: Dataset) -> tuple[int, str] | None:
    if d.rank < 1 or d.dipoles is None:
        return None
    excess = np.linalg.norm(_made_dipoles(d) - d.dipoles, axis=1)
    if (label := _first(excess, DIPOLE + 30 * d.tolerance)) is None:
        return None
    return label, (
        f"the molecular dipole differs by {excess[label]:.2g} e bohr from that of the charges and "
        "atomic dipoles about the origin of the coordinates: take all of them from the same "
        "orientation and origin"
    )


def charge_of(d: Dataset) -> int:
    """Charge of the molecule (e) by its atoms' charges; 0 where there are none."""
    return 0 if d.rank < 0 else round(float(np.median(d.moments[:, :, 0].sum(axis=1))))


def charges_make_dipoles(d: Dataset) -> bool:
    """Whether charges, where labels have no other moments, make their dipoles: to the tolerance
    above in the mean square. True where there are no charges or no dipoles."""
    if d.rank != 0 or d.dipoles is None:
        return True
    excess = np.linalg.norm(_made_dipoles(d) - d.dipoles, axis=1)
    return bool(np.sqrt(np.mean(excess**2)) <= DIPOLE + 30 * d.tolerance)


def charges_are_learned(d: Dataset, rank: int) -> bool:
    """Whether a model of moments to that rank learns the charges of such labels: of charges that do
    not make the dipoles it learns nothing."""
    return rank >= 0 and (rank == 0 or charges_make_dipoles(d))


def _made_dipoles(d: Dataset) -> np.ndarray:
    """Dipoles (n, 3) about the origin of the charges and, where there are some, atomic dipoles."""
    moments = np.asarray(d.moments)
    made = np.einsum("na,nai->ni", moments[:, :, 0], d.geometries)
    if d.rank > 0:
        made += moments[:, :, [2, 3, 1]].sum(axis=1)
    return made


def _outliers(d: Dataset) -> tuple[int, str] | None:
    columns = []
    if d.energies is not None:
        columns.append(("the total energy", d.energies, "Ha", _NEAR))
    names = [f"atom {a + 1} ({symbol})" for a, symbol in enumerate(d.symbols)]
    if d.atomic_energies is not None:
        columns += [
            (f"the energy of {name}", values, "Ha", _NEAR)
            for name, values in zip(names, d.atomic_energies.T, strict=True)
        ]
    if d.gradients is not None:
        largest = np.abs(d.gradients).max(axis=(1, 2))
        columns.append(
            ("the largest component of the gradient", largest, "Ha/bohr", _NEAR_GRADIENT)
        )
    if d.moments is not None:
        columns += [
            (f"{moment} of {name}", d.moments[:, a, k], "au", outlier_limit(moment))
            for a, name in enumerate(names)
            for k, moment in enumerate(MOMENT_NAMES[: d.moments.shape[2]])
        ]
    for what, values, unit, near in columns:
        if (label := outlier(values, near)) is not None:
            return label, (
                f"{what} is {values[label]:.6g} {unit}, far from {np.median(values):.6g} {unit} of "
                "all labels (median): remove the label, or label it again"
            )
    return None


def outlier_limit(name: str) -> float:
    """How near an energy or a moment of that name may be to others without doubt."""
    return _NEAR * 3 ** moment_rank(name) if name in MOMENT_NAMES else _NEAR


def outlier(values: np.ndarray, near: float = _NEAR) -> int | None:
    """Index of the value farthest from the inner 80 percent of all, if it is an outlier.

    None where there is none, or fewer than ten values. What is closer than ``near`` never is one.
    """
    if len(values) < _FEWEST:
        return None
    low = np.quantile(values, 0.1, method="higher")
    high = np.quantile(values, 0.9, method="lower")
    outside = np.maximum(low - values, values - high)
    worst = int(np.argmax(outside))
    return worst if outside[worst] > max(_RANGES * (high - low), near) else None
