import json

import numpy as np
import phonopy
import pytest
from ase.io import read

from ase_fflux.base.outputs import OutputFiles
from ase_fflux.simulate.thermochemistry import thermochemistry
from ase_fflux.simulate.vibrations.analysis import vibrations
from ase_fflux.simulate.vibrations.files import (
    AMPLITUDE,
    FRAMES,
    SUFFIXES,
    format_table,
    write_vibrations,
)


@pytest.fixture
def written(tetrahedron, tmp_path):
    """Vibrations, their files and the table that was returned."""
    found = vibrations(tetrahedron)
    files = OutputFiles(tmp_path / "m-vib", SUFFIXES)
    thermo = thermochemistry(found, symmetry_number=1)
    table = write_vibrations(found, thermo, files, "a molecule", about={"model": ["springs"]})
    return found, files, table


def test_everything_is_there(written):
    _, files, table = written
    assert files.written == [str(files[suffix]) for suffix in SUFFIXES]
    assert files[".txt"].read_text() == table + "\n"


def test_tables_hold_the_modes(written):
    found, files, table = written
    csv = np.genfromtxt(files[".csv"], delimiter=",", names=True)
    assert (csv["wavenumber_per_cm"] == found.wavenumbers).all()
    assert (csv["ir_intensity_km_per_mol"] == found.ir_intensities).all()
    rows = [line.split() for line in table.splitlines() if line[:4].strip().isdigit()]
    assert [float(row[1]) for row in rows] == pytest.approx(found.wavenumbers, abs=0.051)
    assert [float(row[2]) for row in rows] == pytest.approx(found.ir_intensities, abs=0.0051)


def test_force_constant_in_mdyn(written):
    found, files, _ = written
    csv = np.genfromtxt(files[".csv"], delimiter=",", names=True)
    # 4 pi^2 c^2 nu^2 mu in SI; 1 mdyn/A = 100 N/m
    omega = 2 * np.pi * 299792458e2 * found.wavenumbers
    expected = omega**2 * found.reduced_masses * 1.66053904e-27 / 100
    assert csv["force_constant_mdyn_per_angstrom"] == pytest.approx(expected, rel=1e-7)


def test_summary(written):
    found, files, _ = written
    summary = json.loads(files[".json"].read_text())
    assert summary["model"] == ["springs"]
    assert summary["zero_point_energy_eV"] == found.zero_point_energy
    ratio = summary["zero_point_energy_kJ_per_mol"] / summary["zero_point_energy_eV"]
    assert ratio == pytest.approx(96.4853, rel=1e-5)
    assert np.shape(summary["mode_displacements"]) == (6, 4, 3)
    assert summary["thermochemistry"]["temperature_K"] == 298.15
    assert summary["thermochemistry"]["gibbs_energy_eV"] < summary["thermochemistry"]["enthalpy_eV"]
    assert summary["files"] == sorted(files.written)


def test_animations_swing_through_the_geometry(written):
    found, files, _ = written
    paths = sorted(files["-modes/"].iterdir())
    assert len(paths) == 6
    for number, path in enumerate(paths):
        frames = read(path, ":")
        assert len(frames) == FRAMES
        assert frames[0].info["wavenumber_per_cm"] == round(found.wavenumbers[number], 2)
        moves = np.array([frame.positions for frame in frames]) - found.atoms.positions
        assert moves[0] == pytest.approx(0, abs=1e-7)
        assert moves.mean(axis=0) == pytest.approx(0, abs=1e-7)
        assert np.linalg.norm(moves[FRAMES // 4], axis=1).max() == pytest.approx(AMPLITUDE)
        cosine = np.sum(moves[FRAMES // 4] * found.displacements[number])
        assert cosine == pytest.approx(np.linalg.norm(moves[FRAMES // 4]))


def test_phonopy_reads_its_file(written):
    found, files, _ = written
    phonon = phonopy.load(files["-phonopy_params.yaml"], is_symmetry=False, log_level=0)
    hessian = phonon.force_constants.transpose(0, 2, 1, 3).reshape(12, 12)
    assert hessian == pytest.approx(found.hessian, abs=1e-3)
    assert phonon.forces.shape == (24, 4, 3)


def test_picture_is_a_png(written):
    _, files, _ = written
    picture = files[".png"].read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    curve = np.genfromtxt(files["-spectrum.csv"], delimiter=",", names=True)
    assert curve["molar_absorptivity_L_per_mol_cm"].max() > 0


def test_without_dipoles_there_is_no_spectrum(triangle, tmp_path):
    found = vibrations(triangle)
    files = OutputFiles(tmp_path / "m", SUFFIXES)
    thermo = thermochemistry(found, symmetry_number=6)
    write_vibrations(found, thermo, files, "no dipole")
    missing = {str(files[suffix]) for suffix in ("-spectrum.csv", ".png")}
    assert set(files.written) == {str(files[suffix]) for suffix in SUFFIXES} - missing
    assert "intensity" not in files[".csv"].read_text()


def test_imaginary_modes_are_marked(linear_triatomic):
    i, j, k, b = linear_triatomic.calc.bends[0]
    linear_triatomic.calc.bends = [(i, j, k, -b)]
    found = vibrations(linear_triatomic)
    table = format_table(found, thermochemistry(found, symmetry_number=2), "saddle")
    marked = [line for line in table.splitlines() if " i " in line and line[:4].strip().isdigit()]
    assert len(marked) == 2
    assert f"{found.wavenumbers[0]:.1f} i" in marked[0]
    assert "2 imaginary modes left out" in table
