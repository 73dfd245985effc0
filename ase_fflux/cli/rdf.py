"""``fflux rdf``: radial distribution functions of a trajectory."""

import argparse

from ase_fflux.base.errors import FFLUXError
from ase_fflux.cli import options

_DESCRIPTION = """\
Radial distribution functions between sites, averaged over the frames of a trajectory of a periodic
box. Writes in the current directory:
  NAME-rdf.csv   table: r in Angstrom, g(r) of each pair, and how many of the second are around one
                 of the first up to the end of the shell
  NAME-rdf.png   the functions
"""

_EPILOG = """\
example:
  fflux rdf box-md.traj
  fflux rdf box-md.traj --frames 200: --pair O-O --pair 'O-H(O)' --r-max 8

A site is an element, or one with the elements bonded to it: H(O) is hydrogen on oxygen, C(CHHH) the
carbon of a methyl group. Atoms of one molecule do not count among each other, but for
--intramolecular; molecules are found by distances in the first frame that is used. Beyond half of
the cell's smallest height atoms meet images of the same neighbours again.

g is 1 where the density around an atom is that of the cell. Exit status: 0 done, 2 error, 130
interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("rdf", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("geometry", metavar="TRAJ",
        help="trajectory in any format that ASE reads, with a cell (traj, extended xyz, ...)")
    add("--format", metavar="F", help="of TRAJ as ASE names it, where name and content do not tell")
    add("--frames", type=options.frames, default=slice(None), metavar="START:STOP:STEP",
        help="which frames, counted from 0, negative from the end (default: all)")
    add("--pair", action="append", type=pair, metavar="A-B",
        help="pair of sites; give it again for each (default: all pairs of elements)")
    add("--r-max", type=options.positive, metavar="R",
        help="how far, in A (default: half of the cell's smallest height, at most 10)")
    add("--width", type=options.positive, default=0.05, metavar="W",
        help="of a shell, in A (default: %(default)g)")
    add("--intramolecular", action="store_true", help="count atoms of one molecule too")
    options.add_output(parser, "-rdf")
    options.add_json(parser)


def pair(text: str) -> tuple[str, str]:
    """Argument type: ``O-H(O)`` as two names of sites."""
    one, other = text.split("-")
    return one, other


pair.__name__ = "A-B"


def run(args: argparse.Namespace) -> None:
    """Average, write and say where the peaks are."""
    from ase_fflux.base.outputs import OutputFiles, versions, write_csv
    from ase_fflux.base.text import printable
    from ase_fflux.cli.progress import stepwise
    from ase_fflux.formats.geometry import read_frames
    from ase_fflux.plots.radial import plot_radial
    from ase_fflux.simulate.radial import radial_distribution

    shown = printable(args.geometry)
    every = read_frames(args.geometry, args.format)
    frames = every[args.frames]
    if not frames:
        raise FFLUXError(f"{shown}: no such frames, the file has {len(every)}")
    files = OutputFiles(options.output_prefix(args, "-rdf", geometries=False), (".csv", ".png"))
    files.require_apart(args.geometry)
    found = radial_distribution(
        stepwise(frames, "counting", len(frames), "frames"), args.pair, r_max=args.r_max,
        width=args.width, intramolecular=args.intramolecular,
    )
    with files.made_anew(args.command):
        columns = {"r_A": found.r}
        for names, g in found.g.items():
            columns[f"g({'-'.join(names)})"] = g
        for names, around in found.coordination.items():
            columns[f"n({'-'.join(names)})"] = around
        write_csv(files[".csv"], columns)
        plot_radial(
            found.r, found.g, files[".png"], title=f"{shown}, {found.frames} frames"
        )
    highest = {"-".join(names): int(g.argmax()) for names, g in found.g.items()}
    args.summary = {
        "command": args.command, "input": args.geometry, "frames": found.frames,
        "pairs": {
            name: {"highest": {"value": g[k], "unit": ""}, "at": {"value": found.r[k], "unit": "A"}}
            for (name, k), g in zip(highest.items(), found.g.values(), strict=True)
        },
        "files": files.written, "versions": versions(),
    }
    for (name, k), g in zip(highest.items(), found.g.values(), strict=True):
        print(f"g({name}): highest {g[k]:.3f} at {found.r[k]:.3f} A")
    print("wrote", ", ".join(files.written))
