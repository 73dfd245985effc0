"""``fflux ts``: a saddle point and the minima that it joins."""

import argparse

from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Find a saddle point of first order (a transition state) from a guess, with Sella (pip install
'ase-fflux[saddle]'). It is checked by its vibrations, and both ways down from it are followed.
Writes in the current directory:
  NAME-ts.xyz          the saddle point, with energy and forces (extended xyz)
  NAME-ts.traj         every step (ASE trajectory; `ase gui` shows it)
  NAME-ts.log          table: step, energy, largest force, smallest coverage
  NAME-ts-modes/       an animation of the imaginary mode (`ase gui FILE` plays it)
  NAME-ts-end-1.xyz    the minima on both sides, the lower first
  NAME-ts-end-2.xyz
  NAME-ts.json         summary: barriers, wavenumbers, settings and versions
"""

_EPILOG = """\
example:
  fflux neb anti.xyz gauche.xyz --model ethanol
  fflux ts anti-neb-saddle.xyz --model ethanol

The guess may also be a maximum of a scan. A saddle point has exactly one imaginary mode; whatever
else the search comes to is told, with what to do. Displaced both ways along the mode and optimised,
the ends say which minima it joins.

Exit status: 0 done, 1 not converged, no saddle point, or an end that is no minimum (the output is
written), 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("ts", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-ts")
    add = parser.add_argument
    add("--fmax", type=options.positive, default=0.001, metavar="F",
        help="largest force on an atom at convergence in eV/A (default: %(default)s)")
    add("--steps", type=options.natural, default=500, metavar="N",
        help="stop after so many steps (default: %(default)s)")
    add("--cartesian", action="store_true",
        help="step in Cartesian coordinates, where internal ones fail (default: distances, angles "
        "and torsions, which take a third of the forces and stay nearer to the guess)")
    options.add_uncertainty(parser, "each barrier, in kJ/mol")
    add_view(parser, "the imaginary mode")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Find the saddle point; 0 if it is one between two minima, else 1, 130 if interrupted."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.base.units import KJ_PER_MOL
    from ase_fflux.simulate.saddle import load_sella, require_free
    from ase_fflux.simulate.saddle_files import SUFFIXES, format_saddle, saddle_to_files

    load_sella()
    atoms, description = systems.system_of(args)
    require_free(atoms)
    systems.require_fit(atoms, args.uncertainty)
    files = OutputFiles(options.output_prefix(args, "-ts"), SUFFIXES)
    files.require_apart(args.geometry)
    print(f"saddle point from {description}, model {' '.join(args.model)}")
    systems.print_expected_errors(atoms.calc)

    with files.made_anew(args.command):
        found = saddle_to_files(
            atoms, files, fmax=args.fmax, steps=args.steps, cartesian=args.cartesian,
            uncertainty=args.uncertainty, about=options.about(args, atoms.calc), watch=stepwise,
        )
    args.summary, args.viewed = files[".json"], sorted(files["-modes/"].glob("*.xyz"))
    search = found.search
    outcome, status = "not converged", 1
    if found.interrupted:
        outcome, status = "interrupted", 130
    elif search.converged:
        outcome, status = "converged", 0 if found.complete else 1
    change = (search.last.energy - search.first.energy) / KJ_PER_MOL
    print(
        f"{outcome} after {search.steps} steps in {search.seconds:.1f} s: energy "
        f"{search.last.energy:.6f} eV ({change:+.3f} kJ/mol), largest force "
        f"{search.last.fmax:.2g} eV/A"
    )
    for line in format_saddle(found, files):
        print(line)
    print("wrote", ", ".join(files.written))
    return status
