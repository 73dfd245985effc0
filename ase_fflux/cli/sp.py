"""``fflux sp``: energy, forces and moments of geometries as they are."""

import argparse

from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise

_DESCRIPTION = """\
Evaluate geometries as they are: energy by its terms, forces, stress of periodic cells, dipole and
multipole moments, coverage. FILE is a geometry (all of its frames), or a run directory of DL_FFLUX
(CONFIG, CONTROL, FIELD, model_krig/), which has its own force field. Writes in the current
directory:
  NAME-sp.json   everything, units in the names
  NAME-sp.xyz    the geometries with energy, forces, stress, charges and dipole (extended xyz)
"""

_EPILOG = """\
example:
  fflux sp ethanol.xyz --model ethanol
  fflux sp trajectory.traj --model ethanol --json
  fflux sp box.xyz --model water.toml            species, multipoles and pairs of a file
  fflux sp water343                              a run directory of DL_FFLUX

What CONTROL asks for and is done otherwise here is named line by line. Energies within molecules
are those of the models, total energies of their labels; coverage is the largest kernel value
between an atom and the training data, 1 at a training point. Moments are in global axes, in atomic
units. Exit status: 0 done, 2 error, 130 interrupted.
"""

_SHOWN = 20
"""Atoms of which forces are shown on the screen."""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("sp", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser, index=None)
    options.add_model(parser)
    options.add_output(parser, "-sp")
    options.add_uncertainty(parser, "each energy, in eV")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate, print, write."""
    from ase.io import write

    from ase_fflux.base.errors import FFLUXError
    from ase_fflux.base.outputs import OutputFiles, versions, write_json
    from ase_fflux.base.store import replacing
    from ase_fflux.simulate.single_point import single_point

    frames, description, calculator = systems.frames_of(args)
    files = OutputFiles(options.output_prefix(args, "-sp"), (".json", ".xyz"))
    files.require_apart(args.geometry)
    if args.uncertainty:
        frames[0].calc = calculator
        systems.first_uncertainty(frames[0])
        frames[0].calc = None
    found = []
    for atoms in stepwise(frames, "evaluating", len(frames), unit="frames"):
        try:
            found.append(single_point(atoms, calculator, args.uncertainty))
        except FFLUXError as error:
            if len(frames) == 1:
                raise
            raise type(error)(f"frame {len(found)}: {error}") from None
    print(f"{description}, model {' '.join(args.model)}")
    systems.print_expected_errors(calculator)
    print("\n".join(_one(found[0]) if len(found) == 1 else _several(found)))
    with files.made_anew(args.command):
        with replacing(files[".xyz"]) as partial:
            write(partial, [_frame(point) for point in found], format="extxyz")
        write_json(files[".json"], {
            **options.about(args, calculator), "frames": [point.record() for point in found],
            "files": [str(files[".json"]), str(files[".xyz"])], "versions": versions(),
        })
    args.summary = files[".json"]
    print("wrote", ", ".join(files.written))


def _one(point) -> list[str]:
    """Lines of one geometry."""
    import numpy as np

    from ase_fflux.base.text import aligned
    from ase_fflux.simulate.single_point import DEBYE
    from ase_fflux.topology.graphs import atom_label

    numbers = point.atoms.numbers
    sizes = np.linalg.norm(point.forces, axis=1)
    lines = ["", *aligned(point.energy_rows(), [1, 2, 3]), ""]
    if point.uncertainty is not None:
        lines.append(f"standard deviation of the energy: {point.uncertainty.energy:.2g} eV")
    if len(numbers) <= _SHOWN:
        rows = [("force (eV/A)", "x", "y", "z", "size")]
        rows += [
            (atom_label(k, numbers), *(f"{x:.6f}" for x in force), f"{sizes[k]:.6f}")
            for k, force in enumerate(point.forces)
        ]
        lines += [*aligned(rows, [1, 2, 3, 4]), ""]
    else:
        largest = point.largest
        lines.append(f"largest force: {sizes[largest]:.6f} eV/A on {atom_label(largest, numbers)}")
    if point.stress is not None:
        values = " ".join(f"{x:.6g}" for x in point.stress)
        lines.append(f"stress (eV/A^3): xx yy zz yz xz xy = {values}; pressure without kinetic "
                     f"energy {point.pressure:.6g} bar")
    if point.dipole is not None:
        values = " ".join(f"{x:.6f}" for x in point.dipole)
        size = np.linalg.norm(point.dipole)
        lines.append(f"dipole (e A): {values}; size {size:.6f} e A = {DEBYE * size:.4f} D")
    low = int(np.argmin(point.coverage))
    lines.append(f"smallest coverage: {point.coverage[low]:.4f} of {atom_label(low, numbers)}")
    return lines


def _several(points) -> list[str]:
    """A line for each geometry."""
    import numpy as np

    from ase_fflux.base.text import aligned

    head = ["frame", "energy/eV", "largest force/eV/A", "min. coverage"]
    if points[0].dipole is not None:
        head.append("dipole/e A")
    if points[0].uncertainty is not None:
        head.append("standard deviation/eV")
    rows = [head]
    for number, point in enumerate(points):
        row = [
            str(number), f"{point.energy:.6f}",
            f"{np.linalg.norm(point.forces[point.largest]):.6f}", f"{point.coverage.min():.4f}",
        ]
        if point.dipole is not None:
            row.append(f"{np.linalg.norm(point.dipole):.6f}")
        if point.uncertainty is not None:
            row.append(f"{point.uncertainty.energy:.2g}")
        rows.append(row)
    return ["", *aligned(rows, range(len(head))), ""]


def _frame(point):
    """The geometry with what extended xyz holds."""
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = point.atoms.copy()
    results = {"energy": point.energy, "forces": point.forces, "energies": point.energies}
    if point.stress is not None:
        results["stress"] = point.stress
    if point.dipole is not None:
        results |= {"dipole": point.dipole, "charges": point.multipoles[:, 0]}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
