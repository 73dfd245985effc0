"""343 water molecules (1029 atoms, 527 877 pairs of atoms of different molecules)."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ase_fflux import ForceField
from ase_fflux.forcefield.interactions.direct import direct_sum

N = 343
PAIRS = (3 * N) * (3 * N - 3) // 2
NUMBERS = np.tile([8, 1, 1], N)
MOLECULE = np.repeat(np.arange(N), 3)


@pytest.fixture(scope="module")
def box(water_model):
    """Positions (bohr) at about the density of the liquid, as a droplet in vacuum."""
    rng = np.random.default_rng(0)
    turns = Rotation.random(N, random_state=0).as_matrix()
    sites = 5.87 * np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 1, 3)
    molecules = water_model.reference_geometry + rng.normal(scale=0.02, size=(N, 3, 3))
    return (sites + np.einsum("nij,naj->nai", turns, molecules)).reshape(-1, 3)


@pytest.mark.benchmark(group="energy and forces of 343 water molecules")
class TestForceField:
    def measure(self, benchmark, forcefield, box):
        explicit = np.arange(3 * N).reshape(-1, 3).tolist()
        assignment = forcefield.match(box, NUMBERS, explicit=explicit)

        def evaluate():
            return forcefield.evaluate(box, NUMBERS, assignment=assignment)

        evaluate()
        assert np.isfinite(benchmark(evaluate).forces).all()

    def test_intramolecular(self, benchmark, water_model, box):
        self.measure(benchmark, ForceField([water_model], electrostatics=False), box)

    @pytest.mark.parametrize("rank", [0, 2, 4])
    def test_with_electrostatics(self, benchmark, water_model, box, rank):
        self.measure(benchmark, ForceField([water_model], rank=rank), box)

    def test_match(self, benchmark, water_model, box):
        forcefield = ForceField([water_model])
        forcefield.match(box, NUMBERS)
        benchmark(forcefield.match, box, NUMBERS)


@pytest.mark.benchmark(group=f"electrostatics by direct sum, {PAIRS} pairs of atoms")
class TestDirectSum:
    @pytest.mark.parametrize("rank", [0, 1, 2, 4])
    def test_rank(self, benchmark, box, rank):
        """Energy, dE/dR and dE/dQ."""
        moments = np.random.default_rng(1).normal(size=(3 * N, (rank + 1) ** 2))
        energy, *_ = benchmark.pedantic(
            direct_sum, (box, moments, MOLECULE), dict(rank=rank), rounds=15, warmup_rounds=1
        )
        assert np.isfinite(energy)

    def test_numpy_yardstick_of_charges(self, benchmark, box):
        """The same for charges alone, one molecule against all that follow at a time."""
        charges = np.random.default_rng(1).normal(size=3 * N)

        def evaluate():
            potential, gradient = np.zeros(3 * N), np.zeros((3 * N, 3))
            for start in range(0, 3 * N - 3, 3):
                near, far = slice(start, start + 3), slice(start + 3, None)
                d = box[far] - box[near, None]
                inverse = 1.0 / np.sqrt(np.einsum("abi,abi->ab", d, d))
                potential[near] += inverse @ charges[far]
                potential[far] += charges[near] @ inverse
                pull = (charges[near, None] * charges[far] * inverse**3)[..., None] * d
                gradient[near] += pull.sum(axis=1)
                gradient[far] -= pull.sum(axis=0)
            return 0.5 * charges @ potential, gradient, potential

        energy, gradient, potential = benchmark.pedantic(evaluate, rounds=7)
        expected = direct_sum(box, charges[:, None], MOLECULE, rank=0)
        assert energy == pytest.approx(expected[0], rel=1e-8)
        assert np.allclose(gradient, expected[1], rtol=1e-8, atol=1e-8)
        assert np.allclose(potential, expected[2][:, 0], rtol=1e-8, atol=1e-8)
