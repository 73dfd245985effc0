"""Whether energies, forces and positions of foreign labels are in the units they are taken for.

==========================  ======================================================================
what                        refused
==========================  ======================================================================
distances to the nearest    a median of the set below 0.7 or above 1.5 times the sum of covalent
atom                        radii: bohr for Angstrom or the other way round
total energy                below 1.6 times the Thomas-Fermi energy of the atoms, -20.8 Z^7/3 eV,
                            which itself is 1.3 to 1.5 times too low: units smaller than eV taken
                            for eV
binding energy of an atom   with energies of isolated atoms: above +2 or below -15 eV for an atom
forces                      above 15 eV/A (root mean square of a label, median): at
                            1200 K they are 2 to 3
energy differences          of geometries near each other, beside those that the forces make
                            (trapezoidal rule after superposition): a ratio outside of 0.6 to 1.7,
                            where both go together (correlation above 0.6)
==========================  ======================================================================

The last one was 0.95 to 1.32 in eleven public sets at 300 to 600 K where the correlation is above
0.6; three others of flexible molecules tell nothing.
"""

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.label import Dataset
from ase_fflux.topology.superposition import orthogonal_maps

_NEAREST = 0.7, 1.5
_THOMAS_FERMI, _LOWEST = -20.8, 1.6
_BINDING = -15.0, 2.0
_LARGEST_FORCE = 15.0
_RATIO, _CORRELATION = (0.6, 1.7), 0.6
_LABELS, _NEIGHBOURS, _FEWEST = 200, 3, 15
_UNITS = "give --energy-unit and --length-unit of the file"


def believe_units(d: Dataset, path, isolated: Mapping[str, float]) -> None:
    """Refuse labels that are in other units.

    Parameters
    ----------
    d : Dataset
        With energies.
    path : path
        For messages.
    isolated : mapping of str to float
        Energies of isolated atoms by element (hartree), those that are known.

    Raises
    ------
    LabelError
        What does not fit, and what to do.
    """
    numbers = np.array([chemical_symbols.index(symbol) for symbol in d.symbols])
    some = d.select(np.unique(np.linspace(0, len(d) - 1, _LABELS).astype(int)))
    _distances(some, numbers, path)
    lowest = _LOWEST * _THOMAS_FERMI * float((numbers ** (7 / 3)).sum())
    energy = HARTREE * float(np.median(d.energies))
    if energy < lowest:
        raise LabelError(
            f"{path}: total energies of {energy:.6g} eV (median) are lower than {lowest:.4g} eV, "
            f"which no atoms of {''.join(d.symbols)} reach: {_UNITS}"
        )
    if isolated:
        binding = energy - HARTREE * sum(isolated[symbol] for symbol in d.symbols)
        if not _BINDING[0] < binding / len(numbers) < _BINDING[1]:
            raise LabelError(
                f"{path}: total energies of {energy:.6g} eV (median) are {binding:.4g} eV from "
                "those of the isolated atoms: both must be of one level of theory and in one unit"
            )
    if d.gradients is not None:
        force = FORCE * float(np.median(np.sqrt((d.gradients**2).mean(axis=(1, 2)))))
        if force > _LARGEST_FORCE:
            raise LabelError(
                f"{path}: forces of {force:.3g} eV/A (root mean square, median of the labels), "
                f"which tear molecules apart: {_UNITS}"
            )
        if len(some) >= _FEWEST:
            _differences(some, path)


def _distances(d: Dataset, numbers: np.ndarray, path) -> None:
    radii = covalent_radii[numbers] / BOHR
    ratios = np.linalg.norm(d.geometries[:, :, None] - d.geometries[:, None], axis=-1)
    ratios /= radii[:, None] + radii
    ratios[:, np.arange(len(numbers)), np.arange(len(numbers))] = np.inf
    median = float(np.median(ratios.min(axis=2)))
    if not _NEAREST[0] <= median <= _NEAREST[1]:
        raise LabelError(
            f"{path}: atoms are {median:.2g} times the sum of their covalent radii from the next "
            f"one (median): the positions are in another unit; {_UNITS}"
        )


def _differences(d: Dataset, path) -> None:
    made, found = energy_differences(d)
    if np.ptp(made) == 0 or np.ptp(found) == 0:
        return
    correlation = float(np.corrcoef(made, found)[0, 1])
    if abs(correlation) < _CORRELATION:
        return
    ratio = float(found @ found / (found @ made))
    if ratio < 0:
        raise LabelError(
            f"{path}: energies fall where forces push against: these are gradients, or forces of "
            "other geometries; forces are minus the gradient"
        )
    if not _RATIO[0] <= ratio <= _RATIO[1]:
        raise LabelError(
            f"{path}: energies of neighbouring geometries differ by {ratio:.3g} times what the "
            f"forces make: energies, forces and positions are not in one system of units; {_UNITS}"
        )


def energy_differences(d: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Energy differences of neighbouring geometries by their gradients, and as the labels say.

    Of each geometry to the three whose distances between atoms are nearest to its own (hartree).
    """
    n = len(d)
    x = d.geometries - d.geometries.mean(axis=1, keepdims=True)
    i, j = np.triu_indices(x.shape[1], 1)
    shape = np.linalg.norm(x[:, i] - x[:, j], axis=2)
    apart = np.linalg.norm(shape[:, None] - shape, axis=2)
    np.fill_diagonal(apart, np.inf)
    made, found = [], []
    for k, near in enumerate(np.argsort(apart, axis=1)[:, : min(_NEIGHBOURS, n - 1)]):
        turns = orthogonal_maps(x[k], x[near])
        step = x[near] - x[k] @ turns
        gradient = 0.5 * (d.gradients[k] @ turns + d.gradients[near])
        made.append((gradient * step).sum(axis=(1, 2)))
        found.append(d.energies[near] - d.energies[k])
    return np.concatenate(made), np.concatenate(found)
