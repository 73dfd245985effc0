"""Made-up models as bundles, and atoms with calculators of them."""

import numpy as np
import pytest
from ase import Atoms

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR
from ase_fflux.formats.bundle import write_bundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory, chiral_model, methyl_model):
    """Paths of the made-up models: CHFClBr (ranks to 4) and CH3F (ranks to 2)."""
    folder = tmp_path_factory.mktemp("bundles")
    paths = {"chiral": folder / "chiral.fflux", "methyl": folder / "methyl.fflux"}
    write_bundle(paths["chiral"], chiral_model)
    write_bundle(paths["methyl"], methyl_model)
    return paths


def _distorted(model, seed=0, noise=0.05):
    shape = model.reference_geometry
    x = shape + noise * np.random.default_rng(seed).normal(size=shape.shape)
    return Atoms(model.symbols, BOHR * x)


@pytest.fixture(scope="session")
def distorted():
    """``distorted(model, seed, noise)``: a molecule within the training data, in model order."""
    return _distorted


@pytest.fixture
def molecule(chiral_model, bundles):
    """CHFClBr with its calculator."""
    atoms = _distorted(chiral_model)
    atoms.calc = FFLUX(bundles["chiral"])
    return atoms


@pytest.fixture
def mixture(chiral_model, methyl_model, bundles):
    """CHFClBr and two CH3F with a calculator that has all terms."""
    atoms = Atoms()
    for i, model in enumerate((methyl_model, chiral_model, methyl_model)):
        part = _distorted(model, seed=i)
        part.rotate(77 * i, (1, 2, -1))
        part.translate([5.5 * i, 0.5 * i, 0])
        atoms += part
    atoms.calc = FFLUX(
        [bundles["chiral"], bundles["methyl"]],
        short_range={"C-C": {"buckingham": [900.0, 0.3, 20.0]}, "F-H": {"lj": [0.004, 2.6]}},
    )
    return atoms
