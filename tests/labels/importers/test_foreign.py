"""Data sets of other programs: units, keys, several molecules, and what cannot be true."""

import os
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.importers.frames import ENERGY_UNITS

N = 30


@pytest.fixture(scope="module")
def labels(make_labels):
    return make_labels("fluoromethane", N, seed=3, spread=0.05)


def atoms_of(labels, **results):
    """Frames with calculators."""
    frames = []
    for i, x in enumerate(labels.geometries):
        atoms = Atoms(labels.symbols, x * BOHR)
        atoms.calc = SinglePointCalculator(
            atoms, energy=HARTREE * labels.energies[i], forces=-FORCE * labels.gradients[i],
            **{name: values[i] for name, values in results.items()},
        )
        frames.append(atoms)
    return frames


def npz_of(labels, path, energy="kcal/mol", **changes):
    unit = ENERGY_UNITS[energy]
    arrays = {
        "nuclear_charges": np.array(Atoms(labels.symbols).numbers, dtype=np.uint8),
        "coords": labels.geometries * BOHR, "energies": labels.energies * HARTREE / unit,
        "forces": -labels.gradients * FORCE / unit, **changes,
    }
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def same(found, labels):
    assert found.symbols == labels.symbols
    np.testing.assert_allclose(found.geometries, labels.geometries, atol=1e-7)
    np.testing.assert_allclose(found.energies, labels.energies, atol=1e-7)
    np.testing.assert_allclose(found.gradients, labels.gradients, atol=1e-6)


@pytest.mark.parametrize("name", ["data.xyz", "data.extxyz", "data.traj", "data.db", "data.json"])
def test_whatever_ase_reads_with_energies_and_forces(tmp_path, labels, name):
    if name.endswith(("db", "json")):
        with ase.db.connect(tmp_path / name) as database:
            for atoms in atoms_of(labels):
                database.write(atoms)
    else:
        write(tmp_path / name, atoms_of(labels))
    found = read_foreign(tmp_path / name)
    same(found, labels)
    assert found.atomic_energies is None and found.moments is None
    assert found.method == "unknown" and set(found.origins) == {"unknown"}


def test_charges_and_dipoles_are_taken_along(tmp_path, labels):
    charges = labels.moments[:, :, 0]
    write(tmp_path / "data.traj", atoms_of(labels, charges=charges, dipole=labels.dipoles * BOHR))
    found = read_foreign(tmp_path / "data.traj")
    assert found.rank == 0
    np.testing.assert_allclose(found.moments[:, :, 0], charges)
    np.testing.assert_allclose(found.dipoles, labels.dipoles)


def test_odd_keys(tmp_path, labels):
    frames = []
    for atoms in atoms_of(labels):
        other = Atoms(atoms.symbols, atoms.positions)
        other.info |= {"dft_energy": atoms.get_potential_energy(), "config_type": "md 300K"}
        other.arrays["dft_forces"] = atoms.get_forces()
        frames.append(other)
    path = tmp_path / "data.xyz"
    write(path, frames)
    with pytest.raises(FFLUXError, match=r"frame 1: no energy; .*--energy-key .*dft_energy"):
        read_foreign(path)
    with pytest.raises(FFLUXError, match=r"frame 1: no array of 5 times 3 .*dft_forces"):
        read_foreign(path, energy_key="dft_energy", forces_key="force")
    found = read_foreign(path, energy_key="dft_energy", forces_key="dft_forces")
    same(found, labels)
    assert set(found.origins) == {"md-300K"}


def test_archives_in_kcal_per_mol_or_as_they_say(tmp_path, labels):
    same(read_foreign(npz_of(labels, tmp_path / "rmd17.npz")), labels)
    ours = npz_of(
        labels, tmp_path / "sgdml.npz", "eV", e_unit=np.array("eV"), r_unit=np.array("Ang"),
        theory=np.array(b"PBE + TS"), energies=(labels.energies * HARTREE)[:, None],
    )
    found = read_foreign(ours)
    same(found, labels)
    assert found.method == "PBE-+-TS"
    same(read_foreign(npz_of(labels, tmp_path / "ev.npz", "eV"), energy_unit="eV"), labels)


@pytest.mark.parametrize("change, message", [
    ({"coords": None}, "no array R or coords .*energies"),
    ({"energies": None}, "no array E or energies"),
    ({"coords": np.zeros((N, 4, 3))}, "do not fit 5 atoms"),
    ({"energies": np.zeros(3)}, "3 energies of 30"),
    ({"forces": np.zeros((N, 5))}, "forces of the shape"),
    ({"forces": np.full((N, 5, 3), np.nan)}, "geometry 1: its forces are not finite"),
    ({"nuclear_charges": np.array([6, 9, 1, 1, 200])}, "no list of elements"),
    ({"e_unit": np.array("furlong")}, "furlong.*--energy-unit"),
])
def test_archives_that_do_not_fit(tmp_path, labels, change, message):
    with pytest.raises(FFLUXError, match=message):
        read_foreign(npz_of(labels, tmp_path / "data.npz", **change))


def test_what_is_no_archive(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"nothing")
    with pytest.raises(FFLUXError, match="cannot be read as an archive"):
        read_foreign(tmp_path / "data.npz")
    with pytest.raises(FFLUXError, match="no such file"):
        read_foreign(tmp_path / "other.npz")


def test_other_units_are_refused(tmp_path, labels):
    """Forces and energy differences, distances and bonds, energies and atoms fit together."""
    ratio = dict(energies=labels.energies * HARTREE / ENERGY_UNITS["kJ/mol"])
    with pytest.raises(FFLUXError, match="differ by 4.* times what the forces make"):
        read_foreign(npz_of(labels, tmp_path / "a.npz", **ratio))
    with pytest.raises(FFLUXError, match="these are gradients"):
        forces = labels.gradients * FORCE / ENERGY_UNITS["kcal/mol"]
        read_foreign(npz_of(labels, tmp_path / "b.npz", forces=forces))
    with pytest.raises(FFLUXError, match="positions are in another unit"):
        read_foreign(npz_of(labels, tmp_path / "c.npz", coords=labels.geometries))
    with pytest.raises(FFLUXError, match="lower than .* eV, which no atoms of CFHHH reach"):
        energies = labels.energies * HARTREE / ENERGY_UNITS["kcal/mol"] - 1e6
        read_foreign(npz_of(labels, tmp_path / "d.npz", energies=energies))
    per_bohr = dict(forces=-labels.gradients * HARTREE / ENERGY_UNITS["kcal/mol"])
    with pytest.raises(FFLUXError, match="differ by 1.89 times"):
        read_foreign(npz_of(labels, tmp_path / "e.npz", **per_bohr))
    with pytest.raises(FFLUXError, match="no unit 'cal'"):
        read_foreign(npz_of(labels, tmp_path / "f.npz"), energy_unit="cal")


def test_isolated_atoms_are_no_molecules(tmp_path, labels):
    energies = {"C": -2.5, "F": -3.4, "H": -0.3}  # hartree
    frames = []
    for symbol, energy in energies.items():
        atom = Atoms(symbol)
        atom.calc = SinglePointCalculator(atom, energy=HARTREE * energy)
        frames.append(atom)
    write(tmp_path / "data.xyz", [*frames, *atoms_of(labels)])
    found = read_foreign(tmp_path / "data.xyz")
    assert len(found) == N
    assert found.settings == pytest.approx({f"isolated_{s}": e for s, e in energies.items()})
    with pytest.raises(FFLUXError, match="only single atoms"):
        write(tmp_path / "atoms.xyz", frames)
        read_foreign(tmp_path / "atoms.xyz")
    write(tmp_path / "data.xyz", atoms_of(labels))
    with pytest.raises(FFLUXError, match="none of C, F: give all or none"):
        read_foreign(tmp_path / "data.xyz", isolated={"H": -13.6})
    with pytest.raises(FFLUXError, match="from those of the isolated atoms"):
        read_foreign(tmp_path / "data.xyz", isolated={"H": -13.6, "C": -1030.0, "F": -2715.0})


@pytest.mark.parametrize("changes", [{}, {"e_unit": np.array("eV")}])
def test_isolated_atoms_are_in_the_unit_of_the_archive(tmp_path, labels, changes):
    energies = {"C": -2.5, "F": -3.4, "H": -0.3}  # hartree
    unit = "eV" if changes else "kcal/mol"
    found = read_foreign(
        npz_of(labels, tmp_path / "data.npz", unit, **changes),
        isolated={s: e * HARTREE / ENERGY_UNITS[unit] for s, e in energies.items()},
    )
    assert found.settings == pytest.approx({f"isolated_{s}": e for s, e in energies.items()})


def test_several_molecules_are_told_apart(tmp_path, labels, make_labels):
    other = make_labels("formaldehyde", 12, seed=1, spread=0.05)
    write(tmp_path / "data.xyz", [*atoms_of(labels), *atoms_of(other)])
    with pytest.raises(
        FFLUXError, match=r"2 molecules, CH3F \(30 frames\), CH2O \(12 frames\): .*--molecule"
    ):
        read_foreign(tmp_path / "data.xyz")
    same(read_foreign(tmp_path / "data.xyz", molecule="CH2O"), other)
    with pytest.raises(FFLUXError, match="no molecule 'CH4'; there is CH3F"):
        read_foreign(tmp_path / "data.xyz", molecule="CH4")


def _frame(symbols, positions, energy=-100.0):
    atoms = Atoms(symbols, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return atoms


def test_isomers_are_two_molecules_and_travelling_hydrogens_one(tmp_path):
    from ase.build import molecule

    ethanol, ether = molecule("CH3CH2OH"), molecule("CH3OCH3")
    ether = ether[[0, 2, 1, *range(3, 9)]]
    assert ethanol.symbols.formula.format("hill") == ether.symbols.formula.format("hill")
    frames = [_frame(a.symbols, a.positions) for a in (ethanol, ether)]
    write(tmp_path / "isomers.xyz", frames)
    with pytest.raises(FFLUXError, match=r"C2H6O-1 \(1 frames\), C2H6O-2 \(1 frames\)"):
        read_foreign(tmp_path / "isomers.xyz")
    bridge = np.array([[0.0, 0, 0], [2.5, 0, 0], [0.95, 0, 0], [-0.4, 0.9, 0], [2.9, 0.9, 0]])
    moved = bridge.copy()
    moved[2, 0] = 1.55
    write(tmp_path / "proton.xyz", [_frame("OOHHH", x) for x in (bridge, moved)])
    assert len(read_foreign(tmp_path / "proton.xyz")) == 2


def test_atoms_in_another_order_are_put_in_that_of_the_first(tmp_path, labels):
    frames = atoms_of(labels)
    order = [4, 1, 0, 3, 2]
    for i in range(1, N, 2):
        atoms = frames[i][order]
        atoms.calc = SinglePointCalculator(
            atoms, energy=frames[i].get_potential_energy(), forces=frames[i].get_forces()[order]
        )
        frames[i] = atoms
    write(tmp_path / "data.traj", frames)
    found = read_foreign(tmp_path / "data.traj")
    assert found.symbols == labels.symbols
    for x, y in ((found.geometries, labels.geometries), (found.gradients, labels.gradients)):
        np.testing.assert_allclose(x[:, :2], y[:, :2], atol=1e-7)  # hydrogens may be exchanged
        np.testing.assert_allclose(np.sort(x, axis=1), np.sort(y, axis=1), atol=1e-7)
    hand = [np.sign(np.linalg.det(x[:, 2:] - x[:, :1])) for x in (found.geometries,)]
    assert len(np.unique(hand)) == 1


def test_frames_with_different_quantities_and_periodic_ones(tmp_path, labels):
    frames = atoms_of(labels)
    frames[4].calc = SinglePointCalculator(frames[4], energy=frames[4].get_potential_energy())
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(FFLUXError, match="frame 5: no forces, which frame 1 has"):
        read_foreign(tmp_path / "data.xyz")
    frames = atoms_of(labels)
    for atoms in frames:
        results = atoms.calc.results
        atoms.set_cell([20.0] * 3)
        atoms.pbc = True
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "box.traj", frames)
    with pytest.raises(FFLUXError, match="frame 1: is periodic.*--vacuum"):
        read_foreign(tmp_path / "box.traj")
    found = read_foreign(tmp_path / "box.traj", vacuum=True)
    np.testing.assert_allclose(found.gradients, labels.gradients, atol=1e-6)


@pytest.fixture(scope="module")
def public_data():
    """Folder of public data sets; tests on them skip where it is absent."""
    here = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("FFLUX_DATA", here))
    if not folder.is_dir():
        pytest.skip(f"public data sets not found at {folder} (set FFLUX_DATA)")
    return folder


@pytest.mark.parametrize("name", [
    "rmd17/rmd17_ethanol_train_01.npz", "acac/test_MD_300K.xyz", "acac/test_H_transfer.xyz",
])
def test_public_sets(public_data, name):
    found = read_foreign(public_data / name)
    assert len(found) == {"ethanol": 1000, "MD_300K": 650, "H_transfer": 15}[
        next(k for k in ("ethanol", "MD_300K", "H_transfer") if k in name)
    ]
    if name.endswith(".xyz"):
        first = read(public_data / name, 0)
        assert HARTREE * found.energies[0] == pytest.approx(first.get_potential_energy())
