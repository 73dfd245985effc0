"""``fflux export``: labels in the formats of other programs."""

import argparse
from pathlib import Path

from ase_fflux.cli import options

_DESCRIPTION = """\
Write the labels of DATA, a label file or a data set of another program, for programs that learn
total energies and forces:
  NAME.xyz   extended xyz in eV and Angstrom, as ASE, MACE and others read it
  NAME.npz   archive of sGDML in kcal/mol and Angstrom
Atomic energies and moments above charges are left out.
"""

_EPILOG = """\
example:
  fflux export ethanol-build/labels.xyz -o ethanol.npz
  fflux export ethanol-build/labels.xyz -o train.xyz --keys REF_energy,REF_forces

Energies of isolated atoms that the labels carry become frames of type IsolatedAtom. A file that is
there is kept as NAME.~1~. Exit status: 0 done, 2 error.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.data_options import add_reading

    parser = subparsers.add_parser("export", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("data", metavar="DATA", help="labels of one molecule")
    add("-o", "--output", metavar="FILE", required=True, help="NAME.xyz or NAME.npz")
    add("--keys", type=_keys, default=("energy", "forces"), metavar="ENERGY,FORCES",
        help="names of energies and forces in NAME.xyz; newer MACE wants REF_energy,REF_forces "
        "(default: energy,forces)")
    add_reading(parser)
    options.add_json(parser)


def _keys(text: str) -> tuple[str, str]:
    energy, forces = text.split(",")
    return energy, forces


_keys.__name__ = "ENERGY,FORCES"


def run(args: argparse.Namespace) -> None:
    """Read, write and count."""
    from ase_fflux.base.errors import FFLUXError
    from ase_fflux.base.outputs import OutputFiles, record_run
    from ase_fflux.cli.data_options import reading_of, summary_of
    from ase_fflux.labels.export import write_extxyz, write_sgdml
    from ase_fflux.labels.importers.any_file import read_any

    path = Path(args.output)
    if path.suffix not in (".xyz", ".extxyz", ".npz"):
        raise FFLUXError(f"-o {path}: the suffix says the format, .xyz or .npz")
    dataset = read_any(Path(args.data), **reading_of(args))
    files = OutputFiles(path, [""])
    files.require_apart(args.data)
    with files.made_anew(args.command):
        if path.suffix == ".npz":
            write_sgdml(path, dataset)
        else:
            write_extxyz(path, dataset, *args.keys)
        record_run(path)
    args.summary = summary_of(args, path, dataset)
    forces = "with" if dataset.gradients is not None else "without"
    print(f"{path}: {len(dataset)} labels of {''.join(dataset.symbols)} ({dataset.method}), "
          f"{forces} forces")
