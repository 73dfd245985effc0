"""``fflux box``: a periodic box of molecules."""

import argparse
from pathlib import Path

from ase_fflux.base.errors import FFLUXError
from ase_fflux.cli import options, systems

_DESCRIPTION = """\
Fill a periodic box with molecules that do not overlap, as a start for dynamics of a liquid or a
mixture. Writes in the current directory:
  NAME-box.xyz   the box (extended xyz): whole molecules, one kind after the other
"""

_EPILOG = """\
example:
  fflux box water --number 343 --density 0.997
  fflux md water-box.xyz --model water --short-range O-O=lj,0.00791,3.17 \\
      --short-range O-H=lj,0.0011,1.902 --short-range-cutoff 8 --temperature 298 --time 2
  fflux box water=300,ethanol=20 --density 0.97
  fflux box ethanol --density 0.789 --cell 25 25 30

Give two of number, density and cell; the third follows. Molecules are those of the models, at their
reference geometries, or of files (one molecule each). They are turned at random and pushed apart
until no atoms of different molecules are nearer than 0.72 times the sum of their van der Waals
radii: O and H 1.96 A, O and O 2.19 A. It is a start, not a liquid, and gives off heat: begin with
the Langevin thermostat, as above.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("box", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("molecules", metavar="MOLECULE[=N],...", type=kinds,
        help="bundled names, .fflux bundles, directories of .model files or geometries, each with "
        "its number of molecules")
    add("--number", type=options.natural, metavar="N",
        help="of molecules, in place of =N where there is one kind")
    add("--density", type=options.positive, metavar="D", help="in g/cm^3")
    add("--cell", type=options.positive, nargs="+", metavar="L",
        help="lengths in A, one for a cube or three, and angles in degrees, three or none")
    add("--seed", type=options.natural, default=1, metavar="S",
        help="of places and turns; the same seed gives the same box (default: %(default)s)")
    options.add_output(parser, "-box")
    options.add_json(parser)


def kinds(text: str) -> list[tuple[str, int | None]]:
    """Argument type: ``water=300,ethanol=20`` as names and numbers."""
    found = []
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        found.append((name, options.natural(number)) if equals else (part, None))
    if not all(name for name, _ in found):
        raise ValueError
    return found


kinds.__name__ = "MOLECULE[=N],..."


def run(args: argparse.Namespace) -> None:
    """Fill the box and write it."""
    import ase.io

    from ase_fflux.base.outputs import OutputFiles, versions
    from ase_fflux.base.store import replacing
    from ase_fflux.simulate.packing import density_of, pack

    species, cell = _wanted(args)
    usual = "-".join(Path(name).stem for name, _ in args.molecules) + "-box"
    files = OutputFiles(options.prefix_of(args.output, usual), (".xyz",))
    for name, _ in args.molecules:
        files.require_apart(name)
    box = pack(species, cell, args.seed)
    with files.made_anew(args.command):
        with replacing(files[".xyz"]) as partial:
            ase.io.write(partial, box, format="extxyz")
    args.summary = {
        "command": args.command,
        "molecules": {name: kind.count for kind, (name, _) in
                      zip(species, args.molecules, strict=True)},
        "atoms": len(box),
        "cell_lengths": {"value": box.cell.lengths(), "unit": "A"},
        "cell_angles": {"value": box.cell.angles(), "unit": "degrees"},
        "density": {"value": density_of(species, cell), "unit": "g/cm^3"},
        "files": files.written, "versions": versions(),
    }
    lengths = " x ".join(f"{length:.3f}" for length in box.cell.lengths())
    molecules = ", ".join(
        f"{kind.count} {name}" for kind, (name, _) in zip(species, args.molecules, strict=True)
    )
    print(f"{molecules}: {len(box)} atoms, {lengths} A, {density_of(species, cell):.4g} g/cm^3")
    print("wrote", ", ".join(files.written))


def _wanted(args):
    """Species and cell that the arguments ask for."""
    from ase_fflux.simulate.packing import Species, cubic_cell, density_of

    cell = None if args.cell is None else _cell(args.cell)
    counts = [number for _, number in args.molecules]
    if args.number is not None:
        if len(counts) > 1 or counts[0] is not None:
            raise FFLUXError("--number is of one kind without =N: leave one of them out")
        counts = [args.number]
    single = [_molecule(name) for name, _ in args.molecules]
    if counts == [None]:
        if args.density is None or cell is None:
            raise FFLUXError("give two of --number, --density and --cell")
        counts = [round(args.density / density_of([Species(single[0], 1)], cell))]
        if counts[0] < 1:
            raise FFLUXError("the cell is too small for a single molecule of this density")
    elif None in counts:
        name = args.molecules[counts.index(None)][0]
        raise FFLUXError(f"how many of {name}? Write {name}=N")
    elif (args.density is None) == (cell is None):
        raise FFLUXError("the molecules are counted: give either --density or --cell")
    species = [Species(atoms, count) for atoms, count in zip(single, counts, strict=True)]
    return species, cubic_cell(species, args.density) if cell is None else cell


def _cell(numbers):
    from ase.cell import Cell

    from ase_fflux.simulate.packing import WIDEST

    if len(numbers) not in (1, 3, 6):
        raise FFLUXError(
            f"--cell has {len(numbers)} numbers: give one length, three, or three and three angles"
        )
    lengths = numbers[:3] if len(numbers) > 1 else 3 * numbers
    if max(lengths) >= WIDEST:
        raise FFLUXError(f"--cell: {max(lengths):g} A is wider than any box that can be filled")
    angles = numbers[3:] or [90.0, 90.0, 90.0]
    alpha, beta, gamma = sorted(angles)
    if gamma >= min(180.0, alpha + beta) or alpha + beta + gamma >= 360:
        said = ", ".join(f"{angle:g}" for angle in angles)
        raise FFLUXError(f"--cell: there is no cell with angles {said}")
    return Cell.fromcellpar([*lengths, *angles]).array


def _molecule(name: str):
    """One molecule as atoms: a model's reference geometry, or a file's."""
    from ase import Atoms

    from ase_fflux.base.errors import ModelError
    from ase_fflux.base.units import BOHR
    from ase_fflux.formats.bundle import SUFFIX
    from ase_fflux.formats.locate import load_molecule

    path = Path(name)
    if path.is_file() and path.suffix != SUFFIX:
        atoms, description = systems.read_geometry(name)
        if atoms.pbc.any():
            raise FFLUXError(
                f"{description} is periodic, and boxes are filled with single molecules: take its "
                "Lattice out if it is one"
            )
        return atoms
    try:
        model = load_molecule(name)
    except ModelError as error:
        raise ModelError(
            f"{error} (molecules of a box are models, or files of geometries)"
        ) from None
    return Atoms(list(model.symbols), BOHR * model.reference_geometry)
