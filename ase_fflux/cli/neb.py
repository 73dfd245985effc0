"""``fflux neb``: the path between two minima and its barrier."""

import argparse
import shlex

from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Find the path of lowest energy between two minima, and its barrier: nudged elastic band with a
climbing image. Both ends are optimised first. Writes in the current directory:
  NAME-neb.xyz          the images, with energies and forces (extended xyz; `ase gui` plays it)
  NAME-neb-saddle.xyz   the highest of them
  NAME-neb.csv          energies along the path
  NAME-neb.json         summary: barriers, imaginary mode, all numbers, settings and versions
  NAME-neb.png          picture, with error bars where --uncertainty asks for them
"""

_EPILOG = """\
example:
  fflux neb anti.xyz gauche.xyz --model ethanol
  fflux neb anti.xyz gauche.xyz --model ethanol --uncertainty --images 15

Both files have the same atoms in the same order, with the same bonds: atoms are counted from 1.
The vibrations of the highest image say whether it is a saddle point; `fflux ts` refines it and
follows both ways down. --uncertainty gives standard deviations of differences from the first end,
in which cancels what the geometries have in common.

Exit status: 0 done, 1 not converged (the output is written), 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("neb", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("geometry", metavar="A", help="one end; of a file with several frames the last")
    add("end", metavar="B", help="the other end")
    options.add_reading(parser)
    options.add_model(parser)
    options.add_output(parser, "-neb")
    add("--images", type=_images, default=11, metavar="N",
        help="geometries of the path, both ends included (default: %(default)s)")
    add("--fmax", type=options.positive, default=0.02, metavar="F",
        help="largest force of the band on an atom at convergence in eV/A (default: %(default)s)")
    add("--steps", type=options.natural, default=500, metavar="N",
        help="stop after so many steps of the band (default: %(default)s)")
    options.add_uncertainty(parser, "each energy above the first end, in kJ/mol")
    add_view(parser, "the images")
    options.add_json(parser)


def _images(text: str) -> int:
    value = int(text)
    if value < 3:
        raise ValueError
    return value


_images.__name__ = "whole number from 3"


def run(args: argparse.Namespace) -> int:
    """Find the path; 0 if it has converged, else 1."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.simulate.neb import check_ends, minimum_path
    from ase_fflux.simulate.neb_files import SUFFIXES, format_path, write_path
    from ase_fflux.simulate.vibrations.analysis import vibrations

    (first, one), (last, two) = (
        systems.read_geometry(file, format=args.format, vacuum=args.vacuum)
        for file in (args.geometry, args.end)
    )
    check_ends(first, last)
    first.calc = systems.build_calculator(args)
    systems.require_fit(first, args.uncertainty)
    files = OutputFiles(options.output_prefix(args, "-neb"), SUFFIXES)
    for file in (args.geometry, args.end):
        files.require_apart(file)
    title = f"path from {one} to {two}, model {' '.join(args.model)}"
    print(title)
    systems.print_expected_errors(first.calc)
    path = minimum_path(
        first, last, images=args.images, fmax=args.fmax, steps=args.steps,
        uncertainty=args.uncertainty,
        watch=lambda steps: stepwise(
            steps, "relaxing", unit="steps", tell=lambda s: f"max. force {s[1]:.4f} eV/A"
        ),
    )
    highest = path.images[path.saddle].copy()
    highest.calc = first.calc
    modes = vibrations(highest)
    with files.made_anew(args.command):
        write_path(
            path, modes, files, title=title,
            about=options.about(args, first.calc) | {"input_of_the_second_end": args.end},
        )
    args.summary, args.viewed = files[".json"], [files[".xyz"]]
    outcome = "converged" if path.converged else "not converged"
    print(f"{outcome} after {path.steps} steps, largest force of the band {path.fmax:.2g} eV/A")
    print("\n".join(format_path(path, modes)))
    print("wrote", ", ".join(files.written))
    if 0 < path.saddle < len(path.images) - 1:
        # the band is converged loosely, and its highest image need not be at the top
        models = [word for model in args.model for word in ("--model", model)]
        again = ["fflux", "ts", str(files["-saddle.xyz"]), *models]
        print(f"refine the highest image, and see what it joins: {shlex.join(again)}")
    return 0 if path.converged else 1
