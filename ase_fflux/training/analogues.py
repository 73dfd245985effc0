"""Models of lighter analogues as priors: which atom is which, and how much of it holds."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from ase.symbols import symbols2numbers
from scipy.optimize import minimize

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField
from ase_fflux.model.analogue import Analogue
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.prior import Prior
from ase_fflux.topology import Pattern
from ase_fflux.topology.graphs import atom_label
from ase_fflux.topology.isomorphism import mappings
from ase_fflux.topology.superposition import deviations

_NOBLE = (2, 10, 18, 36, 54, 86)
"""Atomic numbers that end the periods."""
_TRIED = 20_000
"""Ways of laying the atoms of one molecule onto those of the other that are looked at."""
_FAR = 1.0 / BOHR
"""bohr; an atom farther than this from where the lighter molecule has it is in another conformer.
"""
FACTORS = 0.2, 3.0
"""Between which the factor of an analogue is believed. Right pairs have 0.7 to 1.1, wrong ones
nearly zero."""
_EXPLAINED = 0.5
"""Part of the squares of gradients that an analogue has to explain."""


def same_groups(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two molecules consist of elements of the same groups, hydrogen being its own."""
    return sorted(map(_group, one)) == sorted(map(_group, other))


def _group(symbol: str) -> int:
    """What elements of a column have in common: of groups 13 to 18 the group, of others nothing."""
    (number,) = symbols2numbers([symbol])
    left = next((end - number for end in _NOBLE if end >= number), None)
    if number < 3 or left is None or left > 5:
        return -number
    return 18 - left


def _by_group(symbols: Sequence[str], geometry: np.ndarray) -> Pattern:
    """Bonds between atoms that are told apart by their groups alone."""
    pattern = Pattern.from_geometry("", symbols2numbers(list(symbols)), geometry)
    return replace(pattern, numbers=np.array([_group(symbol) for symbol in symbols]))


def analogue_of(
    model: MoleculeModel, symbols: tuple[str, ...], geometry: np.ndarray, bundle: bytes
) -> Prior:
    """A model of other elements as prior, atoms mapped by bonds and superposition.

    Parameters
    ----------
    model : MoleculeModel
        With elements of the same groups (`same_groups`).
    symbols : tuple of str
        Elements of the N atoms.
    geometry : (N, 3) array
        A minimum (bohr).
    bundle : bytes
        Content of the model's file.

    Returns
    -------
    Prior
        Its factor is one (`fitted`).

    Raises
    ------
    TrainingError
        Other bonds, another conformer, or a model that has itself a prior.
    """
    if model.prior is not None:
        raise TrainingError(
            f"the prior {model.name} is of other elements and stands on top of a prior itself: "
            "give a model of one level"
        )
    light = _minimum(model)
    graphs = _by_group(model.symbols, light), _by_group(symbols, geometry)
    found = np.array(list(islice(mappings(graphs[0], graphs[1]), _TRIED)), dtype=int)
    if not len(found):
        raise TrainingError(
            f"the prior {model.name} is of {''.join(model.symbols)} with other bonds than "
            f"{''.join(symbols)} has"
        )
    apart = deviations(light - light.mean(axis=0), (geometry - geometry.mean(axis=0))[found])
    best = int(np.argmin((apart**2).sum(axis=1)))
    worst = int(np.argmax(apart[best]))
    if apart[best, worst] > _FAR:
        label = atom_label(found[best, worst], symbols2numbers(list(symbols)))
        raise TrainingError(
            f"the prior {model.name} has its minimum in another conformer: {label} is "
            f"{BOHR * apart[best, worst]:.1f} Angstrom from where it would be; give a reference "
            "geometry of the same conformer (--geometry)"
        )
    return Prior(model, found[best], bundle, Analogue(light, geometry), symbols)


def _minimum(model: MoleculeModel) -> np.ndarray:
    """Minimum (N, 3) of a model near its reference geometry (bohr)."""
    forcefield, shape = ForceField([model]), model.reference_geometry.shape
    numbers = symbols2numbers(list(model.symbols))
    assignment = forcefield.in_order(numbers)

    def energy(x):
        found = forcefield.evaluate(x.reshape(shape), numbers, assignment=assignment)
        return found.energy, -found.forces.ravel()

    found = minimize(
        energy, model.reference_geometry.ravel(), jac=True, method="BFGS",
        options={"gtol": 1e-5, "maxiter": 200},
    )
    return found.x.reshape(shape)


def with_factor(prior: Prior, gradients: np.ndarray, light: np.ndarray) -> Prior:
    """The prior with the factor that fits labels' gradients best.

    Parameters
    ----------
    prior : Prior
        An analogue with factor one.
    gradients, light : (n, N, 3) arrays
        Of labels, and of the prior at them (hartree/bohr).

    Raises
    ------
    TrainingError
        A prior that says nothing of the labels: its mapping is wrong.
    """
    factor = float((gradients * light).sum() / max((light**2).sum(), 1e-300))
    left = ((gradients - factor * light) ** 2).sum() / (gradients**2).sum()
    low, high = FACTORS
    if not low < factor < high or left > 1.0 - _EXPLAINED:
        raise TrainingError(
            f"the prior {prior.model.name}, an analogue of {''.join(prior.symbols)}, says too "
            f"little of the labels: with its best factor {factor:.3g} it explains "
            f"{100 * (1 - left):.0f} % of their forces; train without it"
        )
    assert prior.analogue is not None
    return replace(prior, analogue=replace(prior.analogue, factor=factor))
