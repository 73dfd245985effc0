r"""The energy surface of a lighter analogue as that of a molecule: features mapped, one factor.

Where carbon takes the place of silicon or oxygen that of sulfur, bonds are longer and angles
others, and in features counted from their values at the minimum the surfaces are alike. With the
features f of the light molecule and f' of the heavy one at their minima, distances are scaled by
R = f'/f and angles shifted by S = f' - f. A Gaussian process mapped so,

.. math:: E'(f') = \rho E\big((f' - S) / R\big),

is one of the same form: inputs R f + S, theta / R^2 (of distances that enter as 1/R, theta R^2),
weights times rho, weights on derivatives times rho R. Images of the atoms, by which equivalent
atoms share a process, are kept as R and S are means over them.

J. Roecken, J. Zavadlav, J. Chem. Inf. Model. 2025 have transfer across elements by networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import Kernel, azimuths, distances
from ase_fflux.model.molecule import ENERGY, AtomProcess, MoleculeModel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.shared import transformed
from ase_fflux.model.terms import MoleculeTerm


@dataclass(frozen=True, eq=False)
class Analogue:
    """How the molecule of a prior differs from the one whose prior it is.

    Parameters
    ----------
    light : (N, 3) array
        Minimum of the prior, its atoms in the prior's order (bohr).
    heavy : (N, 3) array
        Minimum of the molecule (bohr).
    factor : float
        rho, by which the prior's energy is multiplied.
    """

    light: np.ndarray
    heavy: np.ndarray
    factor: float = 1.0


def mapped(
    model: MoleculeModel, symbols: tuple[str, ...], light: np.ndarray, analogue: Analogue
) -> MoleculeModel:
    """The energies of a model as those of its analogue.

    Parameters
    ----------
    model : MoleculeModel
        Of the light molecule, its atoms in the order of the heavy one.
    symbols : tuple of str
        Of the heavy molecule.
    light : (N, 3) array
        Minimum of the model (bohr), in the same order.
    analogue : Analogue

    Returns
    -------
    MoleculeModel
        With energies alone, and without geometries.
    """
    energies = [p for p in model.processes if ENERGY in p.properties]
    return replace(
        model, symbols=symbols, reference_geometry=analogue.heavy, geometries=None, shared=None,
        charge=None,
        processes=_mapped_processes(energies, model.alf, light, analogue),
        terms=tuple(_mapped_term(term, light, analogue) for term in model.terms),
        second=_mapped_processes(model.second, exchanged_axes(model.alf), light, analogue),
    )


def _mapped_processes(
    energies: Sequence[AtomProcess], alf: np.ndarray, light: np.ndarray, analogue: Analogue
) -> tuple[AtomProcess, ...]:
    """Processes of energies in frames alf (N, 3), mapped."""
    maps = {}
    for process in energies:
        if id(process.gp) not in maps:
            members = [p for p in energies if p.gp is process.gp]
            maps[id(process.gp)] = _mapped(
                process.gp, *_scale_and_shift(members, alf, light, analogue.heavy),
                analogue.factor, process.properties.index(ENERGY),
            )
    return tuple(replace(p, properties=(ENERGY,), gp=maps[id(p.gp)]) for p in energies)


def _scale_and_shift(
    members: list[AtomProcess], alf: np.ndarray, light: np.ndarray, heavy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """R and S (F,) of a process, means over all atoms that share it in all their images."""
    logs, turns = [], []
    for process in members:
        one, other = (features(x[None], alf, process.atom) for x in (light, heavy))
        for order, mirrored in process.views(one.shape[1]):
            a, b = (transformed(x, order, mirrored, np.pi)[0] for x in (one, other))
            radial = distances(len(a))
            logs.append(np.log(np.where(radial, b, 1.0) / np.where(radial, a, 1.0)))
            turn = np.where(azimuths(len(a)), (b - a + np.pi) % (2 * np.pi) - np.pi, b - a)
            turns.append(np.where(radial, 0.0, turn))
    return np.exp(np.mean(logs, axis=0)), np.mean(turns, axis=0)


def _mapped_term(term: MoleculeTerm, light: np.ndarray, analogue: Analogue) -> MoleculeTerm:
    """A term whose inverse distances are those of the light molecule times a factor each, a mean
    over all members in all their images."""
    one, other = (term.columns(x[None])[:, 0] for x in (light, analogue.heavy))
    logs = np.log(other / one)[:, term.view_column].mean(axis=(0, 1))
    return replace(term, gp=_mapped(term.gp, np.exp(logs), 0.0, analogue.factor, 0))


def _mapped(gp, scale, shift, factor, output) -> GaussianProcess:
    """One output of a process, mapped."""
    kernel = gp.kernel
    stretch = np.where(kernel.warped, scale**2, scale**-2)
    slopes = gp.derivative_weights
    return GaussianProcess(
        gp.inputs * scale + shift,
        Kernel(kernel.rbf * stretch, kernel.cyclic, kernel.periodic, kernel.form),
        factor * gp.mean[[output]], factor * gp.weights[[output]], gp.noise,
        None if slopes is None else factor * slopes[[output]] * scale,
    )
