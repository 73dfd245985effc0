"""Mixtures of species from a force-field file."""

import pickle

import numpy as np
import pytest
from ase import Atoms

from ase_fflux import FFLUX, load
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR
from ase_fflux.cli.main import main

TEXT = """\
[species.chiral]
model = "chiral.fflux"

[species.methyl]
model = "methyl.fflux"
types = ["CM", "FM", "HM", "HM", "HM"]

[electrostatics]
rank = 2
accuracy = 1e-9

[pairs]
cutoff = 7.0
mixing = "Lorentz-Berthelot"

[pairs.lj]
C-C = [0.005, 3.3]
CM-CM = [0.004, 3.4]
Br-Br = [0.01, 3.5]
F-HM = [0.002, 2.6]

[pairs.buckingham]
H-FM = [300.0, 0.27, 5.0]
"""

pytestmark = pytest.mark.filterwarnings("ignore:the cell has a net charge")


@pytest.fixture(scope="module")
def file(bundles):
    path = bundles["chiral"].parent / "mixture.toml"
    path.write_text(TEXT)
    return path


def together(distorted, models, places):
    atoms = Atoms()
    for i, (model, place) in enumerate(zip(models, places, strict=True)):
        part = distorted(model, seed=i)
        part.rotate(70 * i, (1, 2, -1))
        part.translate(place)
        atoms += part
    return atoms


@pytest.fixture(scope="module")
def box(distorted, chiral_model, methyl_model):
    """Two species in turn in a triclinic cell, their atoms shuffled and wrapped."""
    places = [(0, 0, 0), (6.4, 0.2, 0.4), (0.2, 6.2, 0.8), (6.3, 6.3, 0.1)]
    atoms = together(
        distorted, [methyl_model, chiral_model, chiral_model, methyl_model], places
    )
    atoms.set_cell([[14.5, 0, 0], [1.0, 14.0, 0], [-0.5, 1.2, 13.2]])
    atoms.pbc = True
    atoms = atoms[np.random.default_rng(0).permutation(len(atoms))]
    atoms.wrap()
    return atoms


def test_forces_and_stress_of_a_mixture(box, file, central_differences):
    atoms = box.copy()
    atoms.calc = FFLUX(file)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    assert sum(atoms.calc.energy_terms.values()) == pytest.approx(atoms.get_potential_energy())
    assert all(abs(value) > 1e-3 for value in atoms.calc.energy_terms.values())
    x, some = atoms.positions.copy(), [0, 4, 9, 17]

    def moved(part):
        atoms.positions = x
        atoms.positions[some] = part
        return atoms.get_potential_energy()

    numerical = central_differences(moved, x[some], step=4e-3)
    scale = np.abs(forces).max()
    np.testing.assert_allclose(forces[some], -numerical, rtol=0, atol=1e-6 * scale)
    atoms.positions = x
    cell = atoms.cell.array.copy()

    def strained(e):
        f = np.eye(3) + np.array([[e[0], e[5], e[4]], [e[5], e[1], e[3]], [e[4], e[3], e[2]]])
        atoms.set_cell(cell @ f)
        atoms.positions = x @ f
        return atoms.get_potential_energy()

    numerical = central_differences(strained, np.zeros(6), step=3e-4) / np.linalg.det(cell)
    numerical[3:] /= 2
    found = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(found, numerical, rtol=0, atol=1e-6 * np.abs(numerical).max())


def test_far_apart_it_is_the_sum_of_its_parts(distorted, chiral_model, methyl_model, file):
    """What is left falls as the electrostatics of two charged molecules, with 1/R."""
    near = together(distorted, [methyl_model, chiral_model], [(0, 0, 0), (6.4, 0.2, 0.4)])
    parts = [near[:5], near[5:]]
    alone = 0.0
    for part in parts:
        part.calc = FFLUX(file)
        alone += part.get_potential_energy()
    assert abs(parts[0].calc.energy_terms["electrostatic"]) == 0.0
    forces = np.concatenate([part.get_forces() for part in parts])
    gaps, differences = [], []
    for distance in (1e3, 2e3):
        far = near.copy()
        far.positions[5:] += (0, 0, distance)
        far.calc = FFLUX(file)
        energy = far.get_potential_energy()
        gaps.append(energy - alone)
        assert far.calc.energy_terms["short_range"] == 0.0
        differences.append(far.get_forces() - forces)
    charges = [part.get_charges().sum() for part in parts]
    wanted = charges[0] * charges[1] * 27.211386 * BOHR / 1e3
    assert gaps[0] == pytest.approx(wanted, rel=0.02, abs=1e-8)
    assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.02, abs=1e-8)
    assert np.abs(differences[0]).max() < 2e-3  # the potential of the one changes the other's
    np.testing.assert_allclose(differences[1], differences[0] / 2, rtol=0, atol=2e-5)


def test_it_is_what_the_parameters_would_say(box, bundles, tmp_path):
    path = bundles["chiral"].parent / "plain.toml"
    path.write_text(
        TEXT[: TEXT.index("[pairs]")].replace('types = ["CM", "FM", "HM", "HM", "HM"]\n', "")
        + "[pairs]\ncutoff = 7.0\n[pairs.lj]\nC-C = [0.005, 3.3]\n"
    )
    one, other = box.copy(), box.copy()
    one.calc = FFLUX(path)
    other.calc = FFLUX(
        [bundles["chiral"], bundles["methyl"]], rank=2, accuracy=1e-9,
        short_range={"C-C": {"lj": [0.005, 3.3]}}, short_range_cutoff=7.0,
    )
    assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(one.get_forces(), other.get_forces(), atol=1e-12)


def test_it_travels_and_tells_of_changes(box, file):
    calculator = FFLUX(file)
    sent = pickle.dumps(calculator)
    assert len(sent) < 5_000
    atoms, twin = box.copy(), box.copy()
    atoms.calc, twin.calc = calculator, pickle.loads(sent)
    assert twin.get_potential_energy() == atoms.get_potential_energy()
    results = load(file).evaluate(
        box.positions / BOHR, box.numbers, box.cell.array / BOHR, box.pbc
    )
    assert results.energy * 27.211386 == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    file.write_text(TEXT.replace("3.3", "3.31"))
    try:
        with pytest.raises(FFLUXError, match="has changed since"):
            pickle.loads(sent)
    finally:
        file.write_text(TEXT)


@pytest.mark.parametrize("old, new, message", [
    ('"CM", "FM", "HM", "HM", "HM"', '"CM", "FM"', "line 5: 2 types of atoms .* has 5 atoms"),
    ("rank = 2", "rank = 4", "line 5: moments of rank 4 are to interact, and CFHHH has up to"),
    ("rank = 2\naccuracy = 1e-9", "level = 4", "line 5: moments of rank 3 are to interact"),
    ('"methyl.fflux"', '"chiral.fflux"', "two species are called CHFClBr"),
    ("Br-Br", "I-I", "line 19: no atom is of type 'I'; types are Br, C, CM, Cl, F, FM, H, HM"),
    ("C-C = [0.005", "C-C = [-0.005", "line 17: short-range pair C-C: epsilon of lj is -0.005"),
])
def test_contradictions_name_the_line(file, bundles, old, new, message):
    path = bundles["chiral"].parent / "other.toml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(FFLUXError, match=message):
        FFLUX(path)


def test_it_comes_alone(file, bundles):
    with pytest.raises(FFLUXError, match="describes a whole force field: give it alone"):
        FFLUX([file, bundles["chiral"]])
    with pytest.raises(FFLUXError, match="change it there, and leave rank, accuracy away"):
        FFLUX(file, rank=1, accuracy=1e-4)


def test_info(file, capsys):
    assert main(["info", str(file)]) == 0
    out = capsys.readouterr().out
    assert "CM FM HM HM HM" in out and "rank 2" in out and "Ewald sums to 1e-09" in out
    assert "force-shifted at 7 A; mixed by Lorentz-Berthelot" in out
    assert "C-CM   lj          epsilon 0.00447214, sigma 3.35" in out
    assert "FM-H   buckingham  A 300, rho 0.27, C 5" in out
