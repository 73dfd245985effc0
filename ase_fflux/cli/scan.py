"""``fflux scan``: the energy along a distance, an angle or a torsion."""

import argparse
import warnings

from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Scan a distance, an angle or a torsion: the rest of the molecule is relaxed at every value, or stays
as it is (--rigid). Writes in the current directory:
  NAME-scan.csv    energies along the coordinate
  NAME-scan.xyz    the geometries, with energies and forces (extended xyz)
  NAME-scan.json   summary: minima, maxima, all numbers, settings and versions
  NAME-scan.png    picture, with error bars where --uncertainty asks for them
"""

_EPILOG = """\
example:
  fflux scan ethanol.xyz --model ethanol --torsion 1 2 3 4
  fflux scan ethanol.xyz --model ethanol --distance 3 4 --range 0.9 1.2 --points 16 --rigid

Atoms are counted from 1. What hangs on the last atom moves as one body before it is relaxed.
--uncertainty gives standard deviations of the differences from the lowest point, in which cancels
what two geometries have in common. Points outside of what the models know have no energy, and are
told.

Exit status: 0 done, 1 some points did not converge or have no energy (the output is written),
2 error, 130 interrupted.
"""

_TURN, _POINTS = 37, 21
"""Points of a whole turn of a torsion, and of any other range."""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("scan", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    for name, atoms in (("torsion", "IJKL"), ("angle", "IJK"), ("distance", "IJ")):
        article = "an" if name == "angle" else "a"
        what.add_argument(
            f"--{name}", nargs=len(atoms), type=options.natural, metavar=tuple(atoms),
            help=f"{article} {name} by its atoms, counted from 1",
        )
    options.add_model(parser)
    options.add_output(parser, "-scan")
    add = parser.add_argument
    add("--range", nargs=2, type=options.real, metavar=("FROM", "TO"),
        help="first and last value, in A or degrees (default: a whole turn of a torsion from where "
        "it is; others need it)")
    add("--points", type=options.several, metavar="N",
        help=f"values, both ends included (default: {_TURN} for a whole turn, else {_POINTS})")
    add("--rigid", action="store_true", help="change nothing else (default: relax)")
    add("--fmax", type=options.positive, default=0.01, metavar="F",
        help="largest force on an atom at convergence in eV/A (default: %(default)s)")
    add("--steps", type=options.natural, default=500, metavar="N",
        help="stop relaxing a point after so many steps (default: %(default)s)")
    options.add_uncertainty(parser, "each energy above the lowest, in kJ/mol")
    add_view(parser, "the geometries")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Scan; 0 if all points have converged, else 1."""
    import numpy as np

    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.simulate.coordinate import Coordinate
    from ase_fflux.simulate.scan import profile, scan, whole_turn
    from ase_fflux.simulate.scan_files import SUFFIXES, format_scan, write_scan

    atoms, description = systems.geometry_of(args)
    numbers = args.torsion or args.angle or args.distance
    coordinate = Coordinate(tuple(number - 1 for number in numbers))
    coordinate.check(atoms)
    if pair := coordinate.unbonded(atoms):
        warnings.warn(
            f"{coordinate.label(atoms)}: {pair} are not bonded in the input; are these the atoms "
            "that you mean?", FFLUXWarning, stacklevel=1,
        )
    here = coordinate.value(atoms)
    if args.range is None and coordinate.kind != "torsion":
        raise FFLUXError(
            f"{coordinate.label(atoms)} is {here:.4g} {coordinate.unit} in the input: say from "
            "where to where (--range FROM TO)"
        )
    first, last = args.range or (here, here + 360.0)
    values = np.linspace(first, last, args.points or (_POINTS if args.range else _TURN))
    atoms.calc = systems.build_calculator(args)
    systems.require_fit(atoms, args.uncertainty)
    points = scan(
        atoms, coordinate, values.tolist(), rigid=args.rigid, fmax=args.fmax, steps=args.steps
    )
    files = OutputFiles(options.output_prefix(args, "-scan"), SUFFIXES)
    files.require_apart(args.geometry)
    title = f"{coordinate.label(atoms)} of {description}, model {' '.join(args.model)}"
    print(title + (", rigid" if args.rigid else ", relaxed"))
    systems.print_expected_errors(atoms.calc)
    points = list(stepwise(points, "scanning", len(values)))
    result = profile(points, atoms.calc if args.uncertainty else None)
    with files.made_anew(args.command):
        write_scan(
            points, result, coordinate, files, title=title, rigid=args.rigid,
            about=options.about(args, atoms.calc),
        )
    args.summary, args.viewed = files[".json"], [files[".xyz"]]
    print("\n".join(format_scan(result, coordinate)))
    difference = whole_turn(points)
    if difference is not None and abs(difference) > 0.1:
        print(f"after a whole turn the energy differs by {difference:+.2g} kJ/mol: the rest of the "
              "molecule has come to another minimum on the way")
    faults = [point for point in points if point.fault]
    open_ends = sum(not point.converged for point in points)
    if faults:
        print(f"no energy at {len(faults)} of {len(points)} points; at "
              f"{faults[0].value:.4g} {coordinate.unit}: {faults[0].fault}")
    if open_ends:
        print(f"not converged after {args.steps} steps: {open_ends} of {len(points)} points")
    print("wrote", ", ".join(files.written))
    return 1 if faults or open_ends else 0
