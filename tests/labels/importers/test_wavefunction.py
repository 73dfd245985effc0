"""Wave functions of other programs."""

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
    from ase_fflux.labels.importers.wavefunction import read_wfn

    source, calculation = run
    expected = source.integrate(calculation, "mbis")
    found = read_wfn(path, "mbis")
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
    from ase_fflux.labels.importers.wavefunction import read_wfn

    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LabelError, match=message):
        read_wfn(path, "hirshfeld")
