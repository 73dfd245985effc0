"""``fflux conformers``: the minima of a molecule, found from one geometry."""

import argparse

from ase_fflux.cli import options
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Look for the conformers of a molecule and write in the current directory:
  NAME-conformers.xyz    minima with their energies, the lowest first (extended xyz)
  NAME-conformers.json   summary: energies, softest modes, where the geometries came from

Geometries with the same bonds and stereochemistry are quenched with GFN2-xTB until 30 in turn bring
nothing new, what is left is optimised tightly with the reference, and saddle points are left both
ways. They come from RDKit (pip install 'ase-fflux[conformers]'), without it from dynamics of
GFN2-xTB at 1000 K, which takes longer: each frame as it is and five times turned about its single
bonds and puckered in its rings at random. Of two mirror images one is written.
"""

_EPILOG = """\
example:
  fflux conformers glycine.xyz
  fflux build glycine-conformers.xyz -o glycine.fflux      a model that knows all of them
  fflux build glycine.xyz --conformers                     the same in one step

Nothing that is searched at random is complete: a larger --window, another --seed and a start of
another shape may bring more. Exit status: 0 done, 2 error, 130 interrupted (nothing is written).
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.label import add_source

    parser = subparsers.add_parser("conformers", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "geometry", metavar="FILE",
        help="a molecule; of several frames the first is searched from, all are optimised",
    )
    options.add_reading(parser)
    options.add_output(parser, "-conformers")
    options.add_search(parser, asked=False)
    parser.add_argument(
        "--seed", type=options.natural, default=1, metavar="S",
        help="of the geometries; the same seed finds the same (default: %(default)s)",
    )
    add_source(parser, "gfn2")
    parser.add_argument("--charge", type=int, default=0, metavar="Q",
                        help="total charge (default: 0)")
    add_view(parser, "the conformers")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Search, print a table, write the files."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.base.text import aligned
    from ase_fflux.cli.label import source_of
    from ase_fflux.formats.geometry import read_frames
    from ase_fflux.labels.conformers import same_atoms
    from ase_fflux.workflows.conformers import SUFFIXES, find_conformers, write_conformers

    starts = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    source = source_of(args)
    same_atoms(starts)
    for atoms in starts:
        source.check(atoms)
    files = OutputFiles(options.output_prefix(args, "-conformers"), SUFFIXES)
    files.require_apart(args.geometry)
    search = options.search_of(args)
    with files.held(args.command):
        conformers, found = find_conformers(starts, source, search, options.progress)
        if moved := files.set_aside():
            print(moved)
        about = {"command": args.command, "input": args.geometry}
        args.summary = write_conformers(conformers, found, files, source, about)
    counted = f"{len(conformers)} minim{'um' if len(conformers) == 1 else 'a'} of {source.method}"
    print(f"{counted}, from {found.quenched} quenched geometries ({found.made_by})"
          if found.quenched else f"{counted}: {found.made_by}")
    rows = [("", "energy/(kJ/mol)", "softest mode/cm-1", "mirror images")] + [
        (str(number), f"{c.above:.2f}", f"{c.wavenumber:.1f}", str(c.images))
        for number, c in enumerate(conformers, 1)
    ]
    for line in aligned(rows, range(4)):
        print(line)
    args.viewed = [files[".xyz"]]
    print("wrote", ", ".join(files.written))
