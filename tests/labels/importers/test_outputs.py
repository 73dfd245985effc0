"""Outputs of programs: units, signs and axes, those that stopped, levels and states in a folder.

The outputs hold what the readers need, in the programs' forms, of a molecule whose energies and
gradients are known.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.base.units import BOHR
from ase_fflux.cli.main import main
from ase_fflux.cli.train_gradients import _digest
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.training.from_labels import read_labels

N = 16
TURN = Rotation.from_euler("xyz", [40, -75, 130], degrees=True)


@pytest.fixture(scope="module")
def labels(make_labels):
    return make_labels("fluoromethane", N, seed=3, spread=0.05)


def rows(form, *columns):
    return "".join(form.format(*values) + "\n" for values in zip(*columns, strict=True))


def gaussian_step(labels, i, *, turned=True, only_standard=False, failed=False, charge=0,
                  debye=True):
    """A geometry with energy, dipole and forces; the standard orientation is another one."""
    numbers, x = Atoms(labels.symbols).numbers, labels.geometries[i] * BOHR
    centre = np.array([0.3, -0.2, 0.5])
    head = " " + 69 * "-" + "\n Center  Atomic  Atomic  Coordinates (Angstroms)\n" \
        " Number  Number  Type  X  Y  Z\n " + 69 * "-" + "\n"

    def orientation(name, at):
        table = rows("{:7d}{:11d}           0    {:12.6f}{:12.6f}{:12.6f}",
                     range(1, len(at) + 1), numbers, *at.T)
        return f"{name + ' orientation:':>46}\n{head}{table} {69 * '-'}\n"

    text = "" if only_standard else orientation("Input", x)
    dipole = labels.dipoles[i] * BOHR
    if turned:
        text += orientation("Standard", TURN.apply(x - centre))
        dipole = TURN.apply(dipole - charge * centre)
    text += f" SCF Done:  E(RB3LYP) = {labels.energies[i]:.9f}     A.U. after   10 cycles\n"
    if failed:
        text += " >>>>>>>>>> Convergence criterion not met.\n"
    text += " Mulliken charges:\n               1\n     1  C    0.500000\n" \
        " Sum of Mulliken charges =   0.00000\n"
    if debye:
        d = dipole / units.Debye
        text += " Dipole moment (field-independent basis, Debye):\n" \
            f"    X={d[0]:22.8f}    Y={d[1]:22.8f}    Z={d[2]:22.8f}  Tot=  1.0\n"
    text += " ***** Axes restored to original set *****\n" + " " + 67 * "-" + "\n" \
        " Center     Atomic                   Forces (Hartrees/Bohr)\n" \
        " Number     Number              X              Y              Z\n " + 67 * "-" + "\n"
    text += rows("{:7d}{:9d}    {:15.9f}{:15.9f}{:15.9f}", range(1, len(x) + 1), numbers,
                 *-labels.gradients[i].T)
    return text + " " + 67 * "-" + "\n"


def gaussian(labels, which, *, route="#p b3lyp/6-31g(d,p) force scf=tight", end=True, charge=0,
             **options):
    line = " " + 70 * "-" + "\n"
    wrapped = "\n".join(" " + route[k : k + 69] for k in range(0, len(route), 69))
    text = " Entering Gaussian System, Link 0=g16\n" + line + wrapped + "\n" + line
    text += f" Charge = {charge:2d} Multiplicity = {1 + charge % 2}\n"
    for i in which:
        text += gaussian_step(labels, i, charge=charge, **options)
    text += r" 1\1\GINC-NODE\Force\RB3LYP\6-31G(d,p)\C1H3F1\USER\01-Jan-2026\0\\" + "\n"
    return text + (" Normal termination of Gaussian 16 at Thu Jan  1 00:00:00 2026.\n" * end)


def orca(labels, which, *, line="! B3LYP def2-SVP EnGrad TightSCF", end=True, note="", charge=0,
         again=False):
    text = " " * 17 + "* O   R   C   A *\n" + f"|  1> {line}\n|  2> * xyz {charge} 1\n"
    for k, i in enumerate(which):
        x, g = labels.geometries[i] * BOHR, labels.gradients[i]
        geometry = "---------------------------------\nCARTESIAN COORDINATES (ANGSTROEM)\n" \
            "---------------------------------\n" \
            + rows("  {:<2}  {:12.6f}{:12.6f}{:12.6f}", labels.symbols, *x.T) + "\n"
        text += "Number of atoms                             ....    "
        text += f"{len(x)}\n{geometry}"
        text += f" Total Charge           Charge          ....    {charge}\n"
        text += " Multiplicity           Mult            ....    1\n"
        text += f"FINAL SINGLE POINT ENERGY    {labels.energies[i]:18.12f}{note}\n"
        text += "------------------\nCARTESIAN GRADIENT\n------------------\n\n" \
            + rows("{:4d}   {:<2}  : {:14.9f} {:14.9f} {:14.9f}", range(1, len(x) + 1),
                   labels.symbols, *g.T) + "\n"
        if again:
            text += geometry
        if k < len(which) - 1:
            text += "    ORCA GEOMETRY RELAXATION STEP\n"
    return text + "                 ****ORCA TERMINATED NORMALLY****\n" * end


def psi4(labels, i, *, end=True, functional="B3LYP"):
    x, g = labels.geometries[i] * BOHR, labels.gradients[i]
    text = "  Psi4: An Open-Source Ab Initio Electronic Structure Package\n" \
        "                               Psi4 1.7 release\n\n  Git: Rev {HEAD} abcdef0\n\n" \
        "  ==> Geometry <==\n\n    Molecular point group: c1\n    Full point group: C1\n\n" \
        "    Geometry (in Angstrom), charge = 0, multiplicity = 1:\n\n" \
        "       Center              X                  Y                   Z\n" \
        "    ------------   -----------------  -----------------  -----------------\n"
    text += rows("       {:>6}     {:17.12f}  {:17.12f}  {:17.12f}",
                 [s.upper() for s in labels.symbols], *x.T)
    text += "\n  ==> Primary Basis <==\n\n  Basis Set: DEF2-SVP\n\n  ==> DFT Potential <==\n\n" \
        f"   => Composite Functional: {functional} <=\n\n  ==> Post-Iterations <==\n\n" \
        f"  @DF-RKS Final Energy: {labels.energies[i]:20.14f}\n\n" \
        "  -Total Gradient:\n     Atom            X                  Y                   Z\n" \
        "    ------   -----------------  -----------------  -----------------\n"
    text += rows("    {:4d}    {:19.12f} {:19.12f} {:19.12f}", range(1, len(x) + 1), *g.T)
    return text + "\n\n" + "*** Psi4 exiting successfully. Buy a developer a beer!\n" * end


def qchem(labels, i, *, end=True):
    x, g = labels.geometries[i] * BOHR, labels.gradients[i]
    electrons = Atoms(labels.symbols).numbers.sum() // 2
    text = "                  Welcome to Q-Chem\nUser input:\n" + 62 * "-" + "\n" \
        "$rem\nmethod b3lyp\nbasis def2-svp\n$end\n" + 62 * "-" + "\n" + 62 * "-" + "\n" \
        "             Standard Nuclear Orientation (Angstroms)\n" \
        "    I     Atom           X                Y                Z\n " + 60 * "-" + "\n"
    text += rows("    {:d}      {:<2} {:17.10f}{:17.10f}{:17.10f}", range(1, len(x) + 1),
                 labels.symbols, *x.T)
    text += " " + 60 * "-" + "\n Nuclear Repulsion Energy =          30.0 hartrees\n" \
        f" There are {electrons:8d} alpha and {electrons:8d} beta electrons\n" \
        " Requested basis set is def2-SVP\n" \
        f" Total energy in the final basis set = {labels.energies[i]:17.10f}\n" \
        " Gradient of SCF Energy\n            " + "".join(f"{k:12d}" for k in range(1, 6)) + "\n"
    text += rows("    {:d}" + 5 * "{:14.9f}", range(1, 4), *g)
    return text + " Gradient time:  CPU 1.00 s\n Total job time:  1.00s(wall), 1.00s(cpu)\n" \
        + "        *  Thank you very much for using Q-Chem.  Have a nice day.  *\n" * end


WRITERS = {
    "Gaussian": lambda labels, i: gaussian(labels, [i]),
    "ORCA": lambda labels, i: orca(labels, [i]),
    "Psi4": psi4, "Q-Chem": qchem,
}


def folder_of(path, texts, suffix=".out"):
    path.mkdir(exist_ok=True)
    for k, text in enumerate(texts, 1):
        (path / f"g{k}{suffix}").write_text(text)
    return path


def same(found, labels, which=range(N), atol=2e-6):
    which = list(which)
    assert found.symbols == labels.symbols and len(found) == len(which)
    np.testing.assert_allclose(found.geometries, labels.geometries[which], atol=atol)
    np.testing.assert_allclose(found.energies, labels.energies[which], atol=2e-9)
    np.testing.assert_allclose(found.gradients, labels.gradients[which], atol=2e-9)


@pytest.mark.parametrize("program", WRITERS)
def test_a_folder_in_natural_order_in_units_of_the_label(tmp_path, labels, program):
    if program in ("Psi4", "Q-Chem"):
        pytest.importorskip("cclib")
    folder = folder_of(tmp_path / "runs", [WRITERS[program](labels, i) for i in range(N)])
    found = read_foreign(folder)
    same(found, labels)
    assert found.settings == {"program": program, "charge": 0, "spin": 0}
    level = "B3LYP/6-31G(d,p)" if program == "Gaussian" else "B3LYP_DEF2-SVP"
    assert found.method == (level if program in ("Gaussian", "ORCA") else "B3LYP/DEF2-SVP")
    assert len(read_foreign([folder / "g3.out", folder / "g1.out"])) == 2
    same(read_foreign(folder / "g3.out"), labels, [2])


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("charge", [0, 1])
def test_gaussians_dipoles_are_put_in_the_axes_of_the_forces(tmp_path, labels, turned, charge):
    folder = folder_of(tmp_path / "runs", [
        gaussian(labels, [i], turned=turned, charge=charge) for i in range(N)
    ], ".log")
    found = read_foreign(folder)
    same(found, labels)
    np.testing.assert_allclose(found.dipoles, labels.dipoles, atol=1e-5)
    assert found.moments is None and found.settings["charge"] == charge


def test_gaussians_forces_in_axes_without_a_geometry_are_not_taken(tmp_path, labels):
    path = tmp_path / "g.log"
    path.write_text(gaussian(labels, [0], only_standard=True))
    with pytest.raises(FFLUXError, match=r"g.log: its forces are in the axes of the input, .*#P"):
        read_foreign(path)
    x = f"{labels.geometries[0, 1, 0] * BOHR:12.6f}"
    path.write_text(gaussian(labels, [0]).replace(x, "   9.000000", 1))
    with pytest.raises(FFLUXError, match="two orientations are not of the same geometry"):
        read_foreign(path)


@pytest.mark.parametrize("write", [gaussian, orca])
def test_optimisations_give_all_geometries_with_forces(tmp_path, labels, write):
    text = write(labels, [2, 0, 1])
    if write is gaussian:
        frequencies = gaussian_step(labels, 1, only_standard=True)
        text = text.replace(" Normal", " Link1:  Proceeding to internal job step number  2.\n"
                            + frequencies + " Normal", 1)
    else:
        x = BOHR * labels.geometries[3]
        x = rows("  {:<2}  {:12.6f}{:12.6f}{:12.6f}", labels.symbols, *x.T)
        last = "    ORCA GEOMETRY RELAXATION STEP\nNumber of atoms       ....    5\n" \
            f"CARTESIAN COORDINATES (ANGSTROEM)\n---\n{x}\nFINAL SINGLE POINT ENERGY   -9.9\n"
        text = text.replace("                 ****", last + "                 ****")
    (tmp_path / "opt.out").write_text(text)
    same(read_foreign(tmp_path / "opt.out"), labels, [2, 0, 1])


def _stopped(labels):
    return {
        "killed.log": (gaussian(labels, [0], end=False), "did not end normally"),
        "error.log": (gaussian(labels, [0]) + " Error termination via Lnk1e\n", "end normally"),
        "scf.log": (gaussian(labels, [0], failed=True), "SCF did not converge"),
        "excited.log": (gaussian(labels, [0]) + " Excited State   1:  Singlet\n", "excited states"),
        "killed.out": (orca(labels, [0], end=False), "did not end normally"),
        "step.out": (orca(labels, [0, 1], end=False), "did not end normally"),
        "nearly.out": (orca(labels, [0], note=" (Wavefunction not fully converged!)"),
                       "its SCF did not converge"),
        "several.out": (orca(labels, [0], again=True), "no final energy of geometry 1"),
        "two.out": (orca(labels, [0]).replace("****ORCA", "CARTESIAN GRADIENT\n****ORCA"),
                    "which energy and gradient are of geometry 1 cannot be told"),
        "psi4.out": (psi4(labels, 0, end=False), "did not end normally"),
        "qchem.out": (qchem(labels, 0, end=False), "did not end normally"),
        "empty.out": ("", "is empty"), "other.out": ("Hello\n", "not of Gaussian, ORCA, Psi4, Q-"),
    }


def test_outputs_that_stopped_are_left_out_by_name_or_refused(tmp_path, labels):
    bad = _stopped(labels)
    folder = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(N)])
    for name, (text, _) in bad.items():
        (tmp_path / name).write_text(text)
        if name not in ("empty.out", "other.out"):
            with pytest.raises(FFLUXError, match=f"{name}: .*{bad[name][1]}"):
                read_foreign(tmp_path / name)
    (folder / "killed.out").write_text(bad["killed.out"][0])
    (folder / "inside").mkdir()
    (folder / "inside" / "scf.log").write_text(bad["scf.log"][0])
    (folder / "g_atom9.out").write_text(bad["killed.out"][0])  # ORCA's own
    with pytest.warns(FFLUXWarning, match=(
        r"2 of 18 outputs are left out: scf.log \(its SCF did not converge\); "
        r"killed.out \(did not end normally\)"
    )) as said:
        same(read_foreign(folder), labels)
    assert len(said) == 1
    for path in folder.glob("g*.out"):
        path.unlink()
    with pytest.raises(FFLUXError, match="none of 2 outputs can be taken: scf.log"):
        read_foreign(folder)


@pytest.mark.parametrize("name", [
    "killed.log", "error.log", "scf.log", "excited.log", "killed.out", "step.out", "nearly.out",
    "several.out", "two.out", "psi4.out", "qchem.out", "empty.out", "other.out",
])
def test_each_of_them_is_named_in_a_folder(tmp_path, labels, name):
    text, reason = _stopped(labels)[name]
    folder = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(1, N)])
    (folder / name).write_text(text)
    with pytest.warns(FFLUXWarning, match=rf"1 of {N} outputs are left out: {name} \(.*{reason}"):
        same(read_foreign(folder), labels, range(1, N))


@pytest.mark.parametrize("other, message", [
    (lambda d: orca(d, [0], line="! PBE0 def2-SVP EnGrad"),
     "method DEF2-SVP_PBE0, that of .*g1.out is B3LYP_DEF2-SVP"),
    (lambda d: orca(d, [0], charge=1), "charge 1, that of .*g1.out is 0"),
    (lambda d: gaussian(d, [0], route="# def2-svp b3lyp force", debye=False),
     "program Gaussian, that of .* is ORCA"),
])
def test_mixtures_are_refused(tmp_path, labels, other, message):
    folder = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(1, N)])
    (folder / "h.out").write_text(other(labels))
    with pytest.raises(FFLUXError, match=message):
        read_foreign(folder)


def test_words_of_the_job_are_not_of_the_level(tmp_path, labels):
    lines = [
        "! B3LYP def2-SVP EnGrad TightSCF", "! def2-SVP b3lyp VeryTightSCF PAL4 EnGrad MiniPrint"
    ]
    folder = folder_of(tmp_path / "runs", [orca(labels, [i], line=lines[i % 2]) for i in range(N)])
    same(read_foreign(folder), labels)
    routes = [
        "#p b3lyp/6-31g(d,p) force", "# B3LYP/6-31G(d,p) scf=(xqc,maxcycle=200) nosymm pop=none opt"
        " guess=read iop(1/8=1) geom=connectivity",
    ]
    other = folder_of(tmp_path / "more", [
        gaussian(labels, [i], route=routes[i % 2].replace(" iop(1/8=1)", "")) for i in range(N)
    ])
    same(read_foreign(other), labels)
    (other / "d.out").write_text(
        gaussian(labels, [0], route="# b3lyp/6-31g(d,p) force empiricaldispersion=gd3bj")
    )
    with pytest.raises(FFLUXError, match="EMPIRICALDISPERSION=GD3BJ"):
        read_foreign(other)


def test_a_geometry_that_stands_twice(tmp_path, labels):
    folder = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(N)])
    (folder / "h.out").write_text(orca(labels, [0]))
    with pytest.warns(FFLUXWarning, match="1 of 17 geometries stand twice, with the same energy"):
        same(read_foreign(folder), labels)
    text = orca(labels, [0])
    (folder / "h.out").write_text(text.replace(f"{labels.energies[0]:.12f}", "-30.1"))
    with pytest.raises(FFLUXError, match=r"h.out: the geometry of .*g1.out with another energy"):
        read_foreign(folder)


def test_molecules_are_told_apart(tmp_path, labels, make_labels):
    water = make_labels("water", 3, seed=1, spread=0.05)
    folder = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(N)])
    folder_of(folder / "water", [orca(water, [i]) for i in range(3)])
    with pytest.raises(FFLUXError, match=r"CH3F \(16 frames\), H2O \(3 frames\): .*--molecule"):
        read_foreign(folder)
    same(read_foreign(folder, molecule="H2O"), water, range(3))


def test_cclib_is_asked_for_where_it_is_needed(tmp_path, labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "cclib", None)
    folder = folder_of(tmp_path / "runs", [psi4(labels, 0)])
    with pytest.raises(FFLUXError, match=r"g1.out: an output of Psi4, .*'ase-fflux\[cclib\]'"):
        read_foreign(folder)


def test_double_hybrids_and_what_does_not_belong_together(tmp_path, labels):
    pytest.importorskip("cclib")
    path = tmp_path / "g.out"
    double = psi4(labels, 0, functional="B2PLYP").replace(
        "  -Total Gradient", "  DF-MP2 Energies\n  Total Energy  =  -30.0 [Eh]\n\n  -Total Gradient"
    )
    path.write_text(double)
    with pytest.raises(FFLUXError, match="g.out: a double hybrid"):
        read_foreign(path)
    path.write_text(psi4(labels, 0).replace("Final Energy:", "Energy:"))
    with pytest.raises(FFLUXError, match="1 geometries, 0 energies and 1 gradients"):
        read_foreign(path)


def test_outputs_on_the_command_line(tmp_path, labels, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(N)])
    assert main(["import", "runs"]) == 0
    assert "runs-labels.xyz: 16 labels of CFHHH (B3LYP_DEF2-SVP), no moments, with gradients" in \
        capsys.readouterr().out
    found = read_dataset(tmp_path / "runs-labels.xyz")
    same(found, labels)
    assert found.settings == {"program": "ORCA", "charge": 0, "spin": 0}
    few = [f"runs/g{k}.out" for k in (2, 1, 3)]
    assert main(["import", *few, "-o", "few.xyz"]) == 0
    same(read_dataset(tmp_path / "few.xyz"), labels, [1, 0, 2])
    capsys.readouterr()
    assert main(["import", "runs", "--energy-unit", "hartree"]) == 2
    assert "outputs of programs say themselves what is in them" in capsys.readouterr().err
    assert main(["import", "runs", "none"]) == 2
    assert "none: no such file or folder" in capsys.readouterr().err
    assert main(["train", "runs"]) == 2
    assert "runs: is not a file; a folder of outputs of programs goes with --gradients" in \
        capsys.readouterr().err


def test_training_reads_a_folder(tmp_path, labels, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = folder_of(tmp_path / "runs", [orca(labels, [i]) for i in range(N)])
    data = read_labels(Path("runs"), None, 0.0, 1, None, latent=True)
    assert data.system == "runs"
    same(data.dataset, labels)
    before = _digest(runs)
    (runs / "notes.log").write_text("not an output\n")
    assert _digest(runs) == before  # the folder of the training is gone on with
    (runs / "g1.out").write_text(orca(labels, [1]))
    assert _digest(runs) != before
    (runs / "c1.int").write_text("")
    assert main(["train", "runs", "--gradients"]) == 2
    said = capsys.readouterr().err
    assert "files of AIMAll: make labels of them first, fflux import runs" in said
