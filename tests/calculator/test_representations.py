"""What objects say of themselves in a notebook."""

from dataclasses import replace

import numpy as np

from ase_fflux import FFLUX, ForceField
from ase_fflux.labels.label import Dataset, labels_of
from ase_fflux.learn.joint.uncertainty import Uncertainty
from ase_fflux.simulate.optimise import optimise
from ase_fflux.simulate.vibrations.analysis import vibrations


def test_models_and_results(make_shared):
    model = make_shared()
    assert repr(model) == (
        "<MoleculeModel fluoromethane: CFHHH, energies and moments to rank 1, 40 labels>"
    )
    known = replace(model, provenance={"label_source": "GFN2-xTB"})
    assert repr(known).endswith("40 labels of GFN2-xTB>")
    forcefield = ForceField([model])
    assert repr(forcefield) == (
        "<ForceField of fluoromethane; between molecules: electrostatic>"
    )
    assert repr(FFLUX(forcefield)) == f"<FFLUX calculator: {forcefield!r}>"
    found = forcefield.evaluate(model.geometries[0], np.array([6, 9, 1, 1, 1]))
    said = repr(found)
    assert said.startswith(f"<Results of 5 atoms: energy {found.energy:.8f} Ha (intramolecular ")
    assert said.endswith("smallest coverage 1.0000, without moments>")


def test_uncertainties():
    found = Uncertainty(0.0123, np.array([0.5, 0.25]), np.array([[0.1, 0.2, 0.3]] * 2))
    assert repr(found) == (
        "<Uncertainty of 2 atoms: standard deviations 0.0123 of the energy, up to 0.5 of an "
        "atom's, up to 0.3 of a force component>"
    )


def test_labels(make_labels):
    data = make_labels("water", 7)
    assert repr(data) == (
        "<Dataset of 7 labels of OHH: energies, gradients, atomic energies, dipoles, moments to "
        "rank 2 (toy), atomic units>"
    )
    assert repr(labels_of(data)[0]) == (
        "<Label of OHH: energy, gradient, atomic energies, dipole, moments to rank 2 (toy), "
        "atomic units>"
    )
    assert "geometries alone (unknown)" in repr(Dataset(("O", "H"), np.zeros((1, 2, 3))))


def test_what_simulations_return(diatomic):
    diatomic.positions[1] *= 1.1
    found = optimise(diatomic)
    assert repr(found).startswith("<Optimisation converged after ")
    minimum = found.atoms.copy()
    minimum.calc = diatomic.calc
    said = repr(vibrations(minimum))
    assert said.startswith("<Vibrations of CO: 1 modes, ") and "0 imaginary" in said
    assert said.endswith("with infrared intensities>")
