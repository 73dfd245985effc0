import logging
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.differences import hessian
from ase_fflux.labels.sampling import (
    DISPLACEMENT,
    SOFT_DISPLACEMENT,
    Portion,
    mode_displacements,
    molecular_dynamics,
    normal_mode_displacements,
    sample,
)

INPUTS = Path(__file__).resolve().parents[2] / "models" / "inputs"


@dataclass
class Springs:
    """Harmonic springs between all pairs of atoms at the lengths of a reference geometry."""

    positions: np.ndarray
    constant: float = 20.0
    """eV/Angstrom^2"""

    def evaluate(self, positions):
        first, second = np.triu_indices(len(positions), 1)
        vectors = positions[first] - positions[second]
        lengths = np.linalg.norm(vectors, axis=1)
        rest = np.linalg.norm(self.positions[first] - self.positions[second], axis=1)
        stretch = lengths - rest
        pulls = (self.constant * stretch / lengths)[:, None] * vectors
        gradient = np.zeros_like(positions)
        np.add.at(gradient, first, pulls)
        np.add.at(gradient, second, -pulls)
        return 0.5 * self.constant * (stretch**2).sum(), gradient

    def label(self, atoms):
        @dataclass
        class Gradient:
            gradient: np.ndarray

        return Gradient(self.evaluate(atoms.positions)[1] / FORCE)

    @property
    def engine(self):
        return self

    def hessian(self, atoms):
        return hessian(atoms, self.calculator())

    def calculator(self):
        return SpringCalculator(self)


class SpringCalculator(Calculator):
    implemented_properties = ["energy", "forces"]

    def __init__(self, springs, fail_at=()):
        super().__init__()
        self.springs, self.fail_at, self.calls = springs, fail_at, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls in self.fail_at:
            raise LabelError("made to fail")
        energy, gradient = self.springs.evaluate(self.atoms.positions)
        self.results = {"energy": energy, "forces": -gradient}


@pytest.fixture
def short_equilibration(monkeypatch):
    monkeypatch.setattr("ase_fflux.labels.sampling.EQUILIBRATION", 100.0)


@pytest.fixture
def cluster():
    """Tetrahedron, off centre."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return Atoms("CNOF", 0.53 * corners + [1.0, 2.0, 3.0])


@pytest.fixture
def springs(cluster):
    return Springs(cluster.positions)


def test_hessian_of_springs(cluster, springs):
    expected = np.zeros((4, 3, 4, 3))
    for i, j in np.argwhere(~np.eye(4, dtype=bool)):
        unit = cluster.positions[i] - cluster.positions[j]
        unit /= np.linalg.norm(unit)
        expected[i, :, i] += 20.0 * np.outer(unit, unit)
        expected[i, :, j] -= 20.0 * np.outer(unit, unit)
    expected = expected.reshape(12, 12) * BOHR**2 / HARTREE
    assert np.allclose(hessian(cluster, springs.calculator(), step=1e-3), expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [10.0, 50.0])
def test_displacements_have_harmonic_energy_and_no_rigid_motion(cluster, springs, temperature):
    """<V> = 6 kT/2; each geometry keeps centre of mass and Eckart frame of the minimum."""
    frames = normal_mode_displacements(
        cluster, springs.hessian(cluster), temperature, 4000, seed=1
    )
    energies = [springs.evaluate(atoms.positions)[0] for atoms in frames]
    assert np.mean(energies) == pytest.approx(3 * units.kB * temperature, rel=0.05)
    centred = cluster.positions - cluster.get_center_of_mass()
    masses = cluster.get_masses()[:, None]
    for atoms in frames[:20]:
        assert np.allclose(atoms.get_center_of_mass(), 0, atol=1e-12)
        moment = (masses * np.cross(centred, atoms.positions)).sum(0)
        assert np.allclose(moment, 0, atol=1e-10)


def test_linear_molecules_have_one_more_mode():
    """Stretches from springs, bends from the transversal stiffness k_b: 4 kT/2 for CO2."""
    atoms = Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]])
    bend = np.array([1.0, -2.0, 1.0])
    matrix = np.kron(np.outer(bend, bend), np.diag([0.05, 0.05, 0.0]))
    stretch = np.array([[1.0, -1, 0], [0, 1, -1]])
    matrix += np.kron(stretch.T @ stretch, np.diag([0.0, 0.0, 1.0]))
    frames = normal_mode_displacements(atoms, matrix, 20.0, 4000, seed=0)
    x = np.array([(a.positions - atoms.positions).ravel() for a in frames]) / BOHR
    mean = 0.5 * np.einsum("ni,ij,nj->n", x, matrix, x).mean() * HARTREE
    assert mean == pytest.approx(2 * units.kB * 20.0, rel=0.05)


def test_soft_modes_are_capped(cluster):
    matrix = Springs(cluster.positions, constant=1e-4).hessian(cluster)
    frames = normal_mode_displacements(cluster, matrix, 300.0, 500, seed=0)
    moves = np.array([a.positions for a in frames])
    moves -= cluster.positions - cluster.get_center_of_mass()
    rms = np.sqrt((moves**2).sum(2).mean(0)).max()
    assert 0.5 * SOFT_DISPLACEMENT < rms < np.sqrt(6) * SOFT_DISPLACEMENT


def test_modes_are_displaced_both_ways_one_at_a_time(cluster, springs):
    hessian = springs.hessian(cluster)
    frames = mode_displacements(cluster, hessian)
    moves = np.array([atoms.positions - cluster.positions for atoms in frames])
    assert moves.shape == (12, 4, 3)
    np.testing.assert_allclose(moves[::2], -moves[1::2], atol=1e-14)
    largest = np.linalg.norm(moves, axis=2).max(axis=1)
    np.testing.assert_allclose(largest, DISPLACEMENT, rtol=1e-12)
    # without rigid motion, and modes of each other independent
    masses = cluster.get_masses()[:, None]
    centred = cluster.positions - cluster.get_center_of_mass()
    for move in moves:
        np.testing.assert_allclose((masses * move).sum(0), 0, atol=1e-12)
        np.testing.assert_allclose((masses * np.cross(centred, move)).sum(0), 0, atol=1e-12)
    flat = moves[::2].reshape(6, 12)
    coupling = flat @ hessian @ flat.T
    off = coupling - np.diag(np.diag(coupling))
    assert np.abs(off).max() < 1e-9 * np.diag(coupling).max()


def test_saddle_point_is_refused(cluster, springs):
    with pytest.raises(LabelError, match=r"CNOF is not at a minimum \(mode of \d+i cm"):
        normal_mode_displacements(cluster, -springs.hessian(cluster), 300.0, 1, seed=0)


def test_dynamics_have_the_temperature(cluster, springs):
    """Mean potential energy of six springs: 6 kT/2, whatever the rotation."""
    frames = molecular_dynamics(cluster, springs, 200.0, 300, seed=5)
    energies = [springs.evaluate(atoms.positions)[0] for atoms in frames]
    assert np.mean(energies) == pytest.approx(3 * units.kB * 200.0, rel=0.2)


def test_dynamics_follow_from_the_seed(cluster, springs, short_equilibration):
    def run(seed):
        return list(molecular_dynamics(cluster, springs, 300.0, 3, seed=seed))

    first, again, other = run(1), run(1), run(2)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0].positions, other[0].positions, atol=1e-3)
    for atoms in first:
        assert np.allclose(atoms.get_center_of_mass(), 0, atol=1e-10)


def test_failure_goes_on_from_the_last_intact_frame(cluster, springs, short_equilibration, caplog):
    # 41 evaluations between frames, 5 strides before the first: the 13th frame fails
    calculator = SpringCalculator(springs, fail_at=(17 * 41 + 20,))
    springs.calculator = lambda: calculator
    with caplog.at_level(logging.WARNING):
        frames = list(molecular_dynamics(cluster, springs, 300.0, 20, seed=1))
    assert len(frames) == 20
    assert "frame 12: made to fail; going on" in caplog.text


def test_molecule_that_does_not_survive(cluster):
    loose = Springs(cluster.positions, constant=0.05)
    with pytest.raises(LabelError, match="sample at a lower temperature"):
        list(molecular_dynamics(cluster, loose, 3000.0, 5, seed=1))


PORTIONS = Portion("md", 300.0, 3), Portion("nm", 50.0, 4), Portion("nm", 300.0, 1)


@pytest.fixture
def both_hands(cluster):
    """A conformer and its mirror image."""
    return [cluster, Atoms(cluster.numbers, -cluster.positions)]


def test_sample_resumes_anywhere(both_hands, springs, short_equilibration):
    complete = list(sample(both_hands, springs, PORTIONS, 8, seed=3))
    origins = [origin for origin, _ in complete]
    assert sorted(origins) == ["md300K"] * 3 + ["nm300K"] + ["nm50K"] * 4
    for skip in (1, 2, 5, 7, 8, 9):
        rest = list(sample(both_hands, springs, PORTIONS, 8, seed=3, skip=skip))
        assert [origin for origin, _ in rest] == origins[skip:]
        for (_, atoms), (_, expected) in zip(rest, complete[skip:], strict=True):
            assert np.array_equal(atoms.positions, expected.positions)


def test_larger_sample_begins_with_the_smaller_one(both_hands, springs, short_equilibration):
    large = list(sample(both_hands, springs, PORTIONS, 23, seed=3))
    for count in (1, 4, 11):
        small = list(sample(both_hands, springs, PORTIONS, count, seed=3))
        assert len(small) == count
        for (origin, atoms), (expected_origin, expected) in zip(small, large, strict=False):
            assert origin == expected_origin
            assert np.array_equal(atoms.positions, expected.positions)
    # and goes on from it
    for (_, atoms), (_, expected) in zip(
        sample(both_hands, springs, PORTIONS, 23, seed=3, skip=11), large[11:], strict=True
    ):
        assert np.array_equal(atoms.positions, expected.positions)


def test_every_stream_keeps_its_share_from_the_beginning(both_hands, springs):
    """However small the sample: portions and conformers by their hand, one geometry at most off."""
    portions = Portion("nm", 50.0, 0.5), Portion("nm", 60.0, 0.3), Portion("nm", 70.0, 0.2)
    streams = [
        (origin, np.sign(np.linalg.det(atoms.positions[1:] - atoms.positions[0])))
        for origin, atoms in sample(both_hands, springs, portions, 40, seed=3)
    ]
    hands = {hand for _, hand in streams}
    assert len(hands) == 2
    for n in range(1, 41):
        for portion in portions:
            for hand in hands:
                drawn = streams[:n].count((portion.origin, hand))
                assert abs(drawn - n * portion.share / 2) <= 1
    assert {(p.origin, h): streams.count((p.origin, h)) for p in portions for h in hands} == {
        (p.origin, h): round(20 * p.share) for p in portions for h in hands
    }


def test_shares_are_relative(cluster, springs):
    def origins(*shares):
        portions = [Portion("nm", 50.0 + p, share) for p, share in enumerate(shares)]
        return [origin for origin, _ in sample([cluster], springs, portions, 12, seed=0)]

    assert origins(0.5, 0.25, 0.25) == origins(2, 1, 1)


def test_streams_have_random_numbers_of_their_own(both_hands, springs):
    portions = Portion("nm", 50.0, 1), Portion("nm", 50.0, 1)
    frames = [a.positions for _, a in sample(both_hands, springs, portions, 12, seed=3)]
    shapes = np.array([np.linalg.norm(x[:, None] - x, axis=-1) for x in frames])
    difference = np.abs(shapes[:, None] - shapes).max(axis=(2, 3))
    assert difference[~np.eye(12, dtype=bool)].min() > 1e-4


def test_wrong_portions():
    with pytest.raises(LabelError, match="'MD'"):
        Portion("MD", 300.0, 0.5)
    for share in (0.0, -0.1, np.nan):
        with pytest.raises(LabelError, match="share of a sample must be above zero"):
            Portion("md", 300.0, share)


def test_sample_is_lazy(cluster, springs, short_equilibration):
    long = sample([cluster], springs, (Portion("md", 300.0, 1),), 30000, seed=0)
    assert len(list(islice(long, 2))) == 2


@pytest.mark.parametrize(
    ("name", "formula", "frames"),
    [
        ("water", "H2O", 1),
        ("ethanol", "C2H6O", 2),
        ("benzene", "C6H6", 1),
        ("fomepizole", "C4H6N2", 1),
        ("formic_acid_dimer", "C2H4O4", 1),
    ],
)
def test_inputs_of_the_bundled_models_are_minima(name, formula, frames):
    pytest.importorskip("tblite.interface", exc_type=ImportError)
    from ase_fflux.labels.tblite_source import GFN2

    source = GFN2()
    conformers = read(INPUTS / f"{name}.xyz", ":")
    assert len(conformers) == frames
    for atoms in conformers:
        assert atoms.get_chemical_formula("hill") == formula
        gradient = source.label(atoms).gradient * FORCE
        assert np.linalg.norm(gradient, axis=1).max() < 1e-4
        normal_mode_displacements(atoms, hessian(atoms, source.calculator()), 300.0, 1, seed=0)


def test_stride_of_a_portion_is_that_of_its_dynamics(monkeypatch):
    strides = []

    def dynamics(atoms, engine, temperature, n_frames, *, seed, stride_fs, after):
        strides.append(stride_fs)
        return iter([atoms] * n_frames)

    monkeypatch.setattr("ase_fflux.labels.sampling.molecular_dynamics", dynamics)

    class Source:
        engine = None

    portions = [Portion("md", 300.0, 0.5), Portion("md", 500.0, 0.5, 100.0)]
    assert len(list(sample([Atoms("H2", [[0, 0, 0], [0, 0, 1]])], Source(), portions, 4, 1))) == 4
    assert strides == [20.0, 100.0]


def test_dynamics_go_on_from_frames_that_were_kept(both_hands, springs, short_equilibration):
    portions = Portion("md", 300.0, 3), Portion("nm", 50.0, 2)
    whole = list(sample(both_hands, springs, portions, 20, seed=3))
    before = [atoms for _, atoms in whole[:12]]
    hessians = [springs.hessian(atoms) for atoms in both_hands]
    made = []
    springs.calculator = lambda: made.append(SpringCalculator(springs)) or made[-1]
    rest = list(sample(
        both_hands, springs, portions, 20, seed=3, before=before, hessians=hessians
    ))
    assert [origin for origin, _ in rest] == [origin for origin, _ in whole[12:]]
    for (origin, atoms), (_, same) in zip(rest, whole[12:], strict=True):
        # displacements follow from the seed, dynamics go other ways
        assert np.allclose(atoms.positions, same.positions) == origin.startswith("nm")
        assert atoms.has("momenta") == origin.startswith("md")
    # 41 evaluations between frames, and nothing else
    frames = sum(origin.startswith("md") for origin, _ in rest)
    assert sum(calculator.calls for calculator in made) == 41 * frames
    energies = [springs.evaluate(atoms.positions)[0] for _, atoms in rest]
    assert max(energies) < 40 * units.kB * 300.0
    # a step later it is where its momenta take it
    first = next(
        molecular_dynamics(both_hands[0], springs, 300.0, 1, seed=1, stride_fs=0.5, after=before[0])
    )
    moved = before[0].positions + 0.5 * units.fs * before[0].get_velocities()
    moved -= Atoms(first.numbers, moved).get_center_of_mass()
    assert np.abs(first.positions - moved).max() < 2e-3
