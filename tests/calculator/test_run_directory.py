import pickle
import shutil
import warnings

import numpy as np
import pytest
from ase import Atoms

from ase_fflux import FFLUX, ForceField, read_dlpoly
from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.base.units import BOHR, HARTREE, HARTREE_KJ, KJ_PER_MOL
from ase_fflux.forcefield.described import typed_pairs
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats.description import PairEntries
from ase_fflux.run_directory import write_dlpoly

pytestmark = pytest.mark.filterwarnings("ignore:the cell has a net charge")


@pytest.fixture(scope="module")
def models(chiral_model, methyl_model, plausible):
    """CHFClBr (ranks to 4) and CH3F (ranks to 2)."""
    return [plausible(chiral_model), plausible(methyl_model)]


@pytest.fixture(scope="module")
def box(models, distorted):
    """Two CH3F and two CHFClBr in turn in a triclinic cell, with typed potentials."""
    chiral_model, methyl_model = models
    atoms = Atoms()
    for i, model in enumerate((methyl_model, chiral_model, methyl_model, chiral_model)):
        part = distorted(model, seed=i)
        part.rotate(77 * i, (1, 2, -1))
        part.translate([6.4 * (i % 2), 6.2 * (i // 2), 0.4 * i])
        atoms += part
    atoms.set_cell([[14.5, 0, 0], [1.0, 14.0, 0], [-0.5, 1.2, 13.2]])
    atoms.pbc = True
    rng = np.random.default_rng(0)
    atoms.set_momenta(0.1 * rng.normal(size=(len(atoms), 3)))
    kinds = ["C1", "H1", "F1", "Cl", "Br", "C2", "F2", "H2", "H2", "H2"]
    pairs = typed_pairs(PairEntries(
        {("C1", "C1"): ("lj", (0.005, 3.3)), ("C2", "C2"): ("lj", (0.004, 3.4)),
         ("F1", "F2"): ("buckingham", (500.0, 0.28, 6.0)), ("F1", "H2"): ("lj", (0.002, 2.6))},
        {}, 5.5, mixing="Lorentz-Berthelot",
    ), kinds)
    atoms.calc = FFLUX(ForceField(models, rank=2, short_range=pairs))
    return atoms


def test_a_directory_written_and_read_has_the_same_energies(box, tmp_path):
    files, order = write_dlpoly(tmp_path / "run", box)
    assert {"CONFIG", "CONTROL", "FIELD", "MPOLES"} <= {path.name for path in files}
    assert all(path.is_file() for path in files)
    back = read_dlpoly(tmp_path / "run")
    assert (back.numbers == box.numbers[order]).all()
    assert back.get_potential_energy() == pytest.approx(box.get_potential_energy(), abs=1e-9)
    for name, value in box.calc.energy_terms.items():
        assert back.calc.energy_terms[name] == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(back.get_forces(), box.get_forces()[order], atol=1e-8)
    np.testing.assert_allclose(back.get_stress(), box.get_stress(), atol=1e-9)
    centred = box.get_momenta() - np.outer(
        box.get_masses(), box.get_momenta().sum(axis=0) / box.get_masses().sum()
    )
    np.testing.assert_allclose(back.get_momenta(), centred[order], atol=1e-6)
    # and once more, from what was read
    write_dlpoly(tmp_path / "again", back)
    again = read_dlpoly(tmp_path / "again")
    assert again.get_potential_energy() == pytest.approx(back.get_potential_energy(), abs=1e-9)


def test_cluster_there_and_back(models, mixture, tmp_path):
    pairs = ShortRange.from_dict({"C-C": {"buckingham": [900.0, 0.3, 20.0]}})
    mixture.calc = FFLUX(ForceField(models, level=3, short_range=pairs))
    write_dlpoly(tmp_path / "run", mixture)
    assert "fflux cluster L3" in (tmp_path / "run" / "CONTROL").read_text()
    back = read_dlpoly(tmp_path / "run")
    assert not back.pbc.any()
    assert back.get_potential_energy() == pytest.approx(mixture.get_potential_energy(), abs=1e-9)


def test_calculator_of_a_directory_is_for_any_geometry_and_travels(box, tmp_path):
    write_dlpoly(tmp_path / "run", box)
    atoms = box.copy()
    atoms.calc = FFLUX(tmp_path / "run")
    assert atoms.get_potential_energy() == pytest.approx(box.get_potential_energy(), abs=1e-9)
    sent = pickle.dumps(atoms.calc)
    assert len(sent) < 20_000
    twin = atoms.copy()
    twin.calc = pickle.loads(sent)
    assert twin.get_potential_energy() == atoms.get_potential_energy()
    with pytest.raises(FFLUXError, match="says how molecules interact: change it there, .* rank"):
        FFLUX(tmp_path / "run", rank=1)
    with pytest.raises(FFLUXError, match="whole force field: give it alone"):
        FFLUX([tmp_path / "run", tmp_path / "run"])
    control = tmp_path / "run" / "CONTROL"
    control.write_text(control.read_text().replace("L3", "L2"))
    with pytest.raises(FFLUXError, match="has changed since"):
        pickle.loads(sent)


def test_molecules_that_overlap_or_are_broken(box, tmp_path):
    onto = box.positions[5] - box.positions[0] + (0.2, 0.1, 0.9)
    for moved, shift, message in (
        (range(5), onto, "are .* Angstrom apart .*the molecules overlap"),
        ([2], (2.5, 0.1, 0.2), "a bond|apart|broken"),
    ):
        atoms = box.copy()
        atoms.positions[list(moved)] += shift
        _, order = write_dlpoly(tmp_path / "run", box)
        config = tmp_path / "run" / "CONFIG"
        lines = config.read_text().splitlines()
        for k, x in enumerate(atoms.positions[order]):
            lines[6 + 3 * k] = " ".join(f"{value:.6f}" for value in x)
        config.write_text("\n".join(lines) + "\n")
        with pytest.raises(FFLUXError, match=f"run/CONFIG: .*({message})"):
            read_dlpoly(tmp_path / "run")
        shutil.rmtree(tmp_path / "run")


def test_unknown_keyword_is_a_warning(box, tmp_path):
    write_dlpoly(tmp_path / "run", box)
    control = tmp_path / "run" / "CONTROL"
    control.write_text(control.read_text().replace("finish", "flavour vanilla\nfinish"))
    with pytest.warns(FFLUXWarning, match="CONTROL, line 21: 'flavour vanilla' is not known here"):
        read_dlpoly(tmp_path / "run")


def test_what_the_engine_cannot_do_is_not_written(box, methyl_model, make_shared, tmp_path):
    def refused(message, atoms, forcefield=None):
        with pytest.raises(FFLUXError, match=message):
            write_dlpoly(tmp_path / "new", atoms, forcefield)
        assert not (tmp_path / "new").exists()

    pairs = box.calc.forcefield.interactions[1]
    models = box.calc.forcefield.models
    plain = ForceField(models, short_range=type(pairs)(
        pairs.numbers, pairs.coefficients, pairs.cutoff, False, False, pairs.types, pairs.names
    ))
    refused("adds tail corrections to plain", box, plain)
    small = box.copy()
    small.set_cell(0.78 * box.cell.array)
    refused("longer than half the cell's smallest height", small, box.calc.forcefield)
    slab = box.copy()
    slab.pbc = (True, True, False)
    refused("has no slabs", slab, box.calc.forcefield)
    isotopes = box.copy()
    masses = isotopes.get_masses()
    masses[2] = 2.014
    isotopes.set_masses(masses)
    refused("different masses", isotopes, box.calc.forcefield)
    trained = make_shared()
    refused(
        "trained on gradients", Atoms(trained.symbols, BOHR * trained.reference_geometry),
        ForceField([trained]),
    )
    refused("which force field", box.copy())


@pytest.fixture(scope="module")
def published(reference):
    """The published directory; none of its keywords is unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_dlpoly(reference / "water343")


def test_published_directory(published, reference):
    """Energies, forces and stress of its step 0; constants differ by 2e-7."""
    with np.load(reference / "water343" / "expected_ewald_quadrupole.npz") as content:
        expected = dict(content)
    atoms = published
    forces = atoms.get_forces()
    terms = atoms.calc.energy_terms
    np.testing.assert_allclose(terms["intramolecular"] / HARTREE, -26226.878133861, rtol=1e-9)
    np.testing.assert_allclose(terms["short_range"] / KJ_PER_MOL, 3104.1031770515, rtol=1e-9)
    np.testing.assert_allclose(terms["electrostatic"] / KJ_PER_MOL, -19082.2992642, rtol=1e-6)
    wanted = expected["forces_10Jmol_per_ang"] * 0.01 * KJ_PER_MOL
    np.testing.assert_allclose(forces, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    wanted = -np.diag(expected["stress_virial_10Jmol"]) * 0.01 * KJ_PER_MOL / atoms.get_volume()
    np.testing.assert_allclose(
        atoms.get_stress()[:3], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )
    # STATIS: temperature of the velocities without that of the centre of mass, of 3 n - 3
    degrees = 3 * len(atoms) - 3
    found = 2 * atoms.get_kinetic_energy() / degrees * HARTREE_KJ / HARTREE / 8.31451115e-3
    assert found == pytest.approx(9.758789, abs=1e-4)


def test_published_steps(published, reference):
    """The published run step by step, 20 of them.

    It is at constant pressure (``npt hoover``), where the volume follows the stress, so that forces
    and stress are compared. Measured deviations are at most 8.4e-6 Ha of E_IQA, 0.17 kJ/mol of
    E_vdW and 0.20 kJ/mol of E_coul (which falls by 1561); those of E_vdW grow steadily. Why was not
    found out: the published electrostatics are not exact, which may or may not be enough.
    """
    atoms = published.copy()
    atoms.calc = published.calc
    table = np.loadtxt(reference / "water343" / "FFLUX_expected_first_50_steps.txt", skiprows=2)
    dynamics = Melchionna(atoms, timestep=1e-3, temperature=298.0, pressure=1e-3, times=(0.25, 0.1))
    deviations = []
    for step, iqa, vdw, coulomb in table[:21]:
        if step:
            dynamics.advance()
        terms = atoms.calc.energy_terms
        deviations.append([
            terms["intramolecular"] / HARTREE * 2625.499638285 / 2625.5 - iqa,
            terms["short_range"] / KJ_PER_MOL - vdw,
            terms["electrostatic"] / KJ_PER_MOL - coulomb,
        ])
    assert (np.abs(deviations).max(axis=0) < [1e-5, 0.2, 0.22]).all()
    assert atoms.cell[0, 0] == pytest.approx(21.48977, abs=1e-5)


class Melchionna:
    """Nose-Hoover thermostat and barostat as DL_POLY_4 integrates them, in its units.

    S. Melchionna, G. Ciccotti and B. L. Holian, Mol. Phys. 78, 533 (1993); DL_POLY_4's manual,
    section on the Nose-Hoover barostat.
    """

    def __init__(self, atoms, timestep, temperature, pressure, times):
        self.atoms, self.dt = atoms, timestep
        self.m = atoms.get_masses()[:, None]
        self.v = atoms.get_velocities() * 98.22694788  # Angstrom/ps
        degrees, kt = 3 * len(atoms) - 3, 0.831451115 * temperature
        self.kt = kt * (degrees + 1)
        self.q, self.w = degrees * kt * times[0] ** 2, kt * (degrees + 3) * times[1] ** 2
        self.pressure = pressure / 0.163882576
        self.chi = self.eta = 0.0
        self.look()

    def look(self):
        unit = 0.01 * KJ_PER_MOL
        self.forces = self.atoms.get_forces() / unit
        self.volume = self.atoms.get_volume()
        self.virial = self.atoms.get_stress()[:3].sum() * self.volume / unit

    def twice_kinetic(self):
        return float(np.sum(self.m * self.v**2))

    def thermostat(self, dt):
        def push():
            excess = self.twice_kinetic() + self.w * self.eta**2 - self.kt
            self.chi += 0.5 * dt * excess / self.q

        push()
        self.v *= np.exp(-dt * self.chi)
        push()

    def barostat(self, dt):
        def push():
            self.eta *= np.exp(-0.25 * dt * self.chi)
            excess = self.twice_kinetic() - self.virial - 3 * self.pressure * self.volume
            self.eta += 0.5 * dt * excess / self.w
            self.eta *= np.exp(-0.25 * dt * self.chi)

        push()
        self.v *= np.exp(-dt * self.eta)
        push()

    def half(self):
        self.thermostat(0.25 * self.dt)
        self.barostat(0.5 * self.dt)
        self.thermostat(0.25 * self.dt)

    def advance(self):
        dt, atoms = self.dt, self.atoms
        self.half()
        self.v += 0.5 * dt * self.forces / self.m
        grown = np.exp(dt * self.eta)
        centre = atoms.get_center_of_mass()
        atoms.set_cell(atoms.cell.array * grown)
        atoms.positions = grown * (atoms.positions - centre) + dt * self.v + centre
        self.look()
        self.v += 0.5 * dt * self.forces / self.m
        self.half()
        self.v -= (self.m * self.v).sum(axis=0) / self.m.sum()
