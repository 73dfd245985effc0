"""``fflux opt``: optimise a geometry."""

import argparse

from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Optimise a geometry with FFLUX models and write in the current directory:
  NAME-opt.xyz    the last geometry, with energy and forces (extended xyz)
  NAME-opt.traj   every step (ASE trajectory; `ase gui` shows it)
  NAME-opt.log    table: step, energy, largest force, smallest coverage
  NAME-opt.json   summary with settings, energies and versions
"""

_EPILOG = """\
example:
  fflux opt ethanol.xyz --model ethanol
  fflux vib ethanol-opt.xyz --model ethanol      go on with the vibrations
  fflux opt ice.cif --model water --cell --short-range O-O=lj,0.00791,3.17 \\
      --short-range O-H=lj,0.0011,1.902 --short-range-cutoff 8

Coverage is the largest kernel value between a geometry and the training data: 1 at a training
point, 0 far from all of them, where a prediction means nothing. --uncertainty asks for the standard
deviation of the energy of each step, which models trained on gradients can tell.

Ctrl-C ends the optimisation and keeps all steps so far. So does, with an error, an energy 5 eV per
atom below the models' reference geometries, or a coverage of next to nothing. Exit status: 0
converged, 1 not converged (the output is written), 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("opt", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-opt")
    parser.add_argument(
        "--fmax",
        type=options.positive,
        default=0.001,
        metavar="F",
        help="largest force on an atom at convergence in eV/A (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=options.natural,
        default=1000,
        metavar="N",
        help="stop after so many steps (default: %(default)s)",
    )
    parser.add_argument(
        "--optimizer",
        choices=["bfgs", "lbfgs", "fire"],
        default="bfgs",
        help="bfgs for molecules, lbfgs for many atoms, fire for rough starts "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--cell",
        action="store_true",
        help="optimise a periodic cell too; the stress, as volume times stress by the number of "
        "atoms, counts like a force",
    )
    parser.add_argument(
        "--pressure",
        type=options.real,
        metavar="P",
        help="on that cell, in bar (default: 0)",
    )
    options.add_uncertainty(parser, "the energy, in eV, to each line of the log")
    add_view(parser, "all steps")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Optimise; 0 if converged, 1 if not, 130 if interrupted."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.base.units import KJ_PER_MOL
    from ase_fflux.simulate.limits import require_asked
    from ase_fflux.simulate.optimise import SUFFIXES, optimise_to_files, require_cell

    require_asked(pressure=args.pressure)
    atoms, description = systems.system_of(args)
    systems.require_fit(atoms, args.uncertainty)
    if args.cell:
        require_cell(atoms)
    files = OutputFiles(options.output_prefix(args, "-opt"), SUFFIXES)
    files.require_apart(args.geometry)
    print(f"{description}, model {' '.join(args.model)}")
    systems.print_expected_errors(atoms.calc)

    with files.made_anew(args.command):
        result = optimise_to_files(
            atoms,
            files,
            fmax=args.fmax,
            steps=args.steps,
            optimizer=args.optimizer,
            uncertainty=args.uncertainty,
            cell=args.cell,
            pressure=args.pressure,
            about=options.about(args, atoms.calc),
            watch=lambda steps: stepwise(
                steps, "optimising", unit="steps", tell=lambda s: f"max. force {s.fmax:.4f} eV/A"
            ),
        )
    args.summary, args.viewed = files[".json"], [files[".traj"]]
    outcome, status = "not converged", 1
    if result.interrupted:
        outcome, status = "interrupted", 130
    elif result.converged:
        outcome, status = "converged", 0
    change = (result.last.energy - result.first.energy) / KJ_PER_MOL
    print(
        f"{outcome} after {result.steps} steps in {result.seconds:.1f} s: "
        f"energy {result.last.energy:.6f} eV ({change:+.3f} kJ/mol), "
        f"largest force {result.last.fmax:.2g} eV/A"
    )
    if args.cell:
        lengths, angles = result.atoms.cell.lengths(), result.atoms.cell.angles()
        print(
            f"cell {', '.join(f'{x:.4f}' for x in lengths)} A, "
            f"{', '.join(f'{x:.3f}' for x in angles)} degrees: volume {result.last.volume:.3f} A^3 "
            f"({100 * (result.last.volume / result.first.volume - 1):+.2f} %), pressure "
            f"{result.last.pressure:.1f} bar"
        )
    if args.uncertainty:
        print(f"standard deviation of the predicted energy: {result.last.uncertainty:.2g} eV")
    print("wrote", ", ".join(files.written))
    return status
