"""One molecule: 9 atoms, 1000 training points and 21 active features per atom."""

from itertools import cycle

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_fflux import FFLUX, ForceField
from ase_fflux.base.units import BOHR
from ase_fflux.model.frames import features

NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])


@pytest.fixture
def geometries(ethanol_model):
    """Endless positions in bohr, none like the one before."""
    steps = np.random.default_rng(1).normal(scale=0.02, size=(64, 9, 3))
    return cycle(list(ethanol_model.reference_geometry + steps))


@pytest.fixture
def trajectory(geometries):
    """The same in Angstrom."""
    return cycle([BOHR * next(geometries) for _ in range(64)])


@pytest.mark.benchmark(group="energy and forces of 9 atoms (target: evaluate 150 us)")
class TestForceField:
    def test_evaluate(self, benchmark, ethanol_model, geometries):
        forcefield = ForceField([ethanol_model])
        assignment = forcefield.match(next(geometries), NUMBERS)

        def evaluate():
            return forcefield.evaluate(next(geometries), NUMBERS, assignment=assignment)

        evaluate()
        result = benchmark(evaluate)
        assert np.isfinite(result.forces).all()
        columns = sum(
            process.gp.kernel.columns(process.gp.inputs).size for process in ethanol_model.processes
        )
        benchmark.extra_info["floor_flops"] = 4 * columns
        benchmark.extra_info["gflops_at_min"] = 4e-9 * columns / benchmark.stats.stats.min

    def test_numpy_yardstick(self, benchmark, ethanol_model):
        """Values and feature derivatives of the same processes, vectorised over training points.

        Less than `evaluate` does: no features, no frames, no way back to the coordinates.
        """
        work, reference = [], ethanol_model.reference_geometry[None]
        for process in ethanol_model.processes:
            kernel, inputs = process.gp.kernel, process.gp.inputs
            query = kernel.columns(features(reference, ethanol_model.alf, process.atom))
            work.append((query, kernel.columns(inputs), process.gp.weights[0], process.gp.mean[0]))

        def evaluate():
            for query, table, weights, mean in work:
                difference = query - table
                k = weights * np.exp(-np.einsum("nc,nc->n", difference, difference))
                value, slope = mean + k.sum(), -2.0 * (k @ difference)
            return value, slope

        evaluate()
        benchmark(evaluate)

    def test_match(self, benchmark, ethanol_model):
        """What a jump, or a new molecule, costs on top."""
        forcefield = ForceField([ethanol_model])
        forcefield.match(ethanol_model.reference_geometry, NUMBERS)
        benchmark(forcefield.match, ethanol_model.reference_geometry, NUMBERS)


class Nothing(Calculator):
    """ASE's own share: state, checks and copies around a calculation that does nothing."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((9, 3))}


@pytest.mark.benchmark(group="atoms.get_forces() of 9 atoms on the move (target: FFLUX 300 us)")
class TestCalculator:
    def measure(self, benchmark, calculator, trajectory):
        atoms = Atoms(NUMBERS, next(trajectory), calculator=calculator)
        atoms.get_forces()

        def step():
            atoms.positions[:] = next(trajectory)
            return atoms.get_forces()

        assert np.isfinite(benchmark(step)).all()

    def test_fflux(self, benchmark, bundles, trajectory):
        self.measure(benchmark, FFLUX(bundles["ethanol"]), trajectory)

    def test_calculator_that_does_nothing(self, benchmark, trajectory):
        self.measure(benchmark, Nothing(), trajectory)
