"""Wave functions of other programs."""

import re
import sys

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.errors import LabelError

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")

TYPES = ["", "x", "y", "z", "xx", "yy", "zz", "xy", "xz", "yz", "xxx", "yyy", "zzz", "xxy", "xxz",
         "yyz", "xyy", "xzz", "yzz", "xyz"]
HF = Atoms("FH", [[0, 0.1, 0], [0.2, 0, 0.92]])


def _write(path, mf, name="B3LYP"):
    """A .wfn file of a calculation with Cartesian functions."""
    mol = mf.mol
    rows, start = [], 0
    for shell in range(mol.nbas):
        degree = mol.bas_angular(shell)
        common = ((2 * degree + 1) / (4 * np.pi)) ** 0.5 if degree < 2 else 1.0
        monomials = ["x" * a + "y" * b + "z" * (degree - a - b)
                     for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)]
        for column in mol._libcint_ctr_coeff(shell).T:
            for k, monomial in enumerate(monomials):
                for exponent, factor in zip(mol.bas_exp(shell), column, strict=True):
                    rows.append((mol.bas_atom(shell) + 1, TYPES.index(monomial) + 1, exponent,
                                 start + k, common * factor))
            start += len(monomials)
    orbitals = mf.mo_coeff[:, mf.mo_occ > 0]
    lines = [" TITLE", f"GAUSSIAN {orbitals.shape[1]:14d} MOL ORBITALS {len(rows):6d} PRIMITIVES "
             f"{mol.natm:8d} NUCLEI   {name}"]
    for k, x in enumerate(mol.atom_coords(), 1):
        place = "".join(f"{v:12.8f}" for v in x)
        lines.append(f"{mol.atom_pure_symbol(k - 1):<2s}{k:5d}    (CENTRE{k:3d}) {place}  "
                     f"CHARGE = {mol.atom_charge(k - 1):.1f}")

    def table(heading, values, width):
        for s in range(0, len(values), width):
            lines.append(heading + "".join(values[s : s + width]))

    table("CENTRE ASSIGNMENTS  ", [f"{r[0]:3d}" for r in rows], 20)
    table("TYPE ASSIGNMENTS    ", [f"{r[1]:3d}" for r in rows], 20)
    table("EXPONENTS ", [f"{r[2]:14.7E}".replace("E", "D") for r in rows], 5)
    for i, orbital in enumerate(orbitals.T, 1):
        lines.append(f"MO{i:5d}                   OCC NO =    2.0000000  ORB. ENERGY =   -1.0")
        table("", [f"{r[4] * orbital[r[3]]:16.8E}".replace("E", "D") for r in rows], 5)
    lines += ["END DATA", f" TOTAL ENERGY =  {mf.e_tot:20.12f} THE VIRIAL(-V/T)=   2.0"]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run():
    from ase_fflux.labels.pyscf_source import PySCF

    source = PySCF(basis="6-31G(d)", partition="hirshfeld")
    return source, source._run(HF, 1e-7)


@pytest.fixture
def path(run, tmp_path):
    return _write(tmp_path / "hf.wfn", run[1].mf)


def test_wavefunction_gives_the_moments_and_energies_of_its_calculation(run, path):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    source, calculation = run
    expected = source.integrate(calculation, "mbis")
    found = read_wavefunction(path, "mbis")
    np.testing.assert_allclose(found.geometry, calculation.mf.mol.atom_coords(), atol=1e-8)
    np.testing.assert_allclose(found.moments, expected.moments, atol=2e-5)
    # the exponents have eight digits, the densities are fitted alike
    np.testing.assert_allclose(found.atomic_energies, expected.energies, atol=3e-5)
    assert found.atomic_energies.sum() == pytest.approx(calculation.energy, abs=1e-9)
    assert found.method == "B3LYP" and found.gradient is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("OCC NO =    2.0000000", "OCC NO =    1.0000000", "closed shells only"),
        ("NUCLEI   B3LYP", "NUCLEI   XYZZY", "no functional 'XYZZY'"),
        ("NUCLEI   B3LYP", "NUCLEI   LDA", "give the functional that it was made with"),
        ("TYPE ASSIGNMENTS      1", "TYPE ASSIGNMENTS     25", "functions beyond f"),
        ("CENTRE ASSIGNMENTS    1", "CENTRE ASSIGNMENTS  ", "the file is truncated"),
    ],
)
def test_files_that_cannot_be_believed(path, old, new, message):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LabelError, match=message):
        read_wavefunction(path, "hirshfeld")


@pytest.fixture(scope="module")
def iodata():
    return pytest.importorskip("iodata", reason="these files are read by IOData")


def _by_iodata(iodata, mf, path):
    """A file of a calculation, through the .molden file that PySCF writes."""
    from pyscf.tools import molden

    first = path.with_suffix(".molden")
    molden.from_scf(mf, str(first), ignore_h=False)
    if path.suffix == ".molden":
        return path
    data = iodata.load_one(str(first))
    data.energy, data.lot, data.obasis_name, data.run_type = mf.e_tot, "rb3lyp", "made-up", "energy"
    data.title = "hydrogen fluoride"
    if path.suffix == ".wfx":
        data.extra = {"keywords": "GTO", "nuclear_virial_of_energy_gradient_based_forces": 0.0,
                      "virial_ratio": 2.0}
        data.atgradient = np.arange(6.0).reshape(2, 3) / 100
    iodata.dump_one(data, str(path), allow_changes=True)
    return path


@pytest.fixture(scope="module")
def pure():
    """A basis with pure d and f functions and general contractions."""
    from ase_fflux.labels.pyscf_source import PySCF

    source = PySCF(basis="cc-pvtz", partition="hirshfeld")
    return source, source._run(HF, 1e-7)


@pytest.mark.parametrize("suffix", [".molden", ".fchk", ".wfx"])
@pytest.mark.parametrize("functions", ["run", "pure"])
def test_files_that_iodata_reads(iodata, request, tmp_path, suffix, functions):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    if (suffix, functions) == (".wfx", "pure"):
        pytest.skip("wfx has Cartesian functions only")
    source, calculation = request.getfixturevalue(functions)
    path = _by_iodata(iodata, calculation.mf, tmp_path / f"hf{suffix}")
    functional = None if suffix == ".fchk" else "B3LYP"
    found = read_wavefunction(path, "mbis", functional)
    expected = source.integrate(calculation, "mbis")
    np.testing.assert_allclose(found.moments, expected.moments, atol=2e-5)
    np.testing.assert_allclose(found.atomic_energies, expected.energies, atol=3e-5)
    assert found.energy == pytest.approx(calculation.energy, abs=3e-5)
    assert found.method == ("B3LYP/made-up" if suffix == ".fchk" else "B3LYP")
    assert (found.gradient is not None) == (suffix == ".wfx")


def test_moments_alone_without_a_functional(iodata, run, tmp_path):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    path = _by_iodata(iodata, run[1].mf, tmp_path / "hf.molden")
    found = read_wavefunction(path, "hirshfeld")
    assert found.energy is None and found.atomic_energies is None and found.method == "unknown"
    np.testing.assert_allclose(
        found.moments, run[0].integrate(run[1], "hirshfeld").moments, atol=2e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 3], "IOData cannot read it|no atoms, basis or orbitals|"
         "not orthonormal|not as many"),
        (lambda text: re.sub(r"Occup= *2\.0", "Occup= 1.0", text, count=1), "closed shells only"),
    ],
)
def test_damaged_files(iodata, run, tmp_path, change, message):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    path = _by_iodata(iodata, run[1].mf, tmp_path / "hf.molden")
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    with pytest.raises(LabelError, match=message):
        read_wavefunction(path, "hirshfeld", "B3LYP")


def test_missing_iodata_is_told(tmp_path, monkeypatch):
    from ase_fflux.labels.importers.wavefunction import read_wavefunction

    monkeypatch.setitem(sys.modules, "iodata", None)
    (tmp_path / "a.molden").write_text("x")
    with pytest.raises(LabelError, match="read by IOData .*ase-fflux.wavefunctions"):
        read_wavefunction(tmp_path / "a.molden")
    with pytest.raises(LabelError, match="a.chk: not one of .wfn, .wfx, .fchk, .molden"):
        (tmp_path / "a.chk").write_text("x")
        read_wavefunction(tmp_path / "a.chk")
