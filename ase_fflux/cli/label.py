"""``fflux label``: reference data of geometries."""

import argparse
from pathlib import Path

from ase_fflux.cli import options
from ase_fflux.labels.references import REFERENCES

_DESCRIPTION = """\
Label geometries: total energy and gradient, atomic energies and multipole moments of every frame of
FILE, for `fflux train`.

From PySCF (pip install 'ase-fflux[pyscf]'), closed shells: IQA energies that sum to the Kohn-Sham
energy, moments to rank 4. Atoms are those of MBIS or Hirshfeld, which overlap, or topological ones
(qtaim), which take several times longer.
"""

_EPILOG = """\
example:
  fflux label geometries.xyz -o labels.xyz
  fflux train labels.xyz --gradients

Labels are written as they come; a run that was interrupted goes on when it is started again, and
geometries added to FILE are added. Those that do not converge or are integrated badly are left out
and counted. With --scheduler the workers of a Dask cluster label; they need the same packages.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_source(parser: argparse.ArgumentParser, default: str) -> None:
    """Options that choose a label source."""
    add = parser.add_argument
    add("--reference", type=_reference, default=default, metavar="R",
        help=f"where labels come from, {', '.join(REFERENCES)}: GFN2-xTB (tblite), ab initio "
        "(PySCF), or an ASE calculator that FACTORY of MODULE makes, such as "
        "ase:tblite.ase:TBLite: total energies and forces without atomic energies (default: "
        "%(default)s)")
    add("--method", metavar="M",
        help="of PySCF: a functional by its name there, or HF (default: B3LYP); of an ASE "
        "calculator: what to call it")
    add("--basis", metavar="B", help="of PySCF: a basis set by its name there (default: "
        "6-31+G(d,p))")
    add("--partition", metavar="P",
        help="of PySCF: mbis, hirshfeld or qtaim (default: mbis)")
    add("--dispersion", metavar="D",
        help="of PySCF: d3bj or d4, added atom by atom; needs pip install 'ase-fflux[dispersion]' "
        "(default: none)")


def _reference(text: str) -> str:
    """A known reference."""
    if text not in REFERENCES[:2] and not text.startswith("ase:"):
        raise ValueError
    return text


_reference.__name__ = "reference (gfn2, pyscf or ase:MODULE:FACTORY)"


def source_of(args: argparse.Namespace, **options):
    """The label source that `add_source` chooses."""
    from ase_fflux.labels.references import label_source

    return label_source(
        args.reference, charge=args.charge, method=args.method, basis=args.basis,
        partition=args.partition, dispersion=args.dispersion, **options,
    )


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("label", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "geometry", metavar="FILE", help="geometries of one molecule, one in each frame"
    )
    options.add_reading(parser)
    parser.add_argument(
        "-o", "--output", metavar="LABELS.xyz",
        help="label file, continued if it is there (default: FILE's name with -labels.xyz in the "
        "current directory)",
    )
    add_source(parser, "pyscf")
    add = parser.add_argument
    add("--charge", type=int, default=0, metavar="Q", help="total charge (default: 0)")
    add("--workers", type=options.natural, metavar="N",
        help="processes of one thread each (default: as many as cores)")
    options.add_scheduler(parser, "label")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Label and count."""
    from ase_fflux.base.claims import held
    from ase_fflux.base.errors import LabelError
    from ase_fflux.base.machine import cores
    from ase_fflux.base.outputs import OutputFiles, record_run, versions
    from ase_fflux.formats.geometry import output_stem, read_frames
    from ase_fflux.labels.dataset import count_labels
    from ase_fflux.workflows.labelling import label_geometries

    frames = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    path = Path(options.prefix_of(args.output, output_stem(args.geometry) + "-labels.xyz"))
    OutputFiles(path, [""]).require_apart(args.geometry)
    source = source_of(args)
    if args.workers and args.scheduler:
        raise LabelError("--workers and --scheduler: a dask cluster has its own workers")
    about = {
        "command": args.command, "method": source.method, "partition": source.partition or None,
        "files": [str(path)], "versions": versions(),
    }
    try:
        with held(path, args.command), options.dask_client(args.scheduler) as client:
            found = label_geometries(
                frames, source, path, workers=args.workers or cores(), client=client,
                progress=options.progress,
            )
            record_run(path)
    except KeyboardInterrupt:
        kept = count_labels(path)
        args.summary = about | {"interrupted": True, "labels": kept}
        print(f"\ninterrupted; {kept} labels are kept in {path}: the same command "
              "goes on from there")
        return 130
    args.summary = about | {
        "interrupted": False, "labels": count_labels(path), "labelled": found.labelled,
        "labelled_before": found.before, "rejected": found.rejected,
    }
    for reason in found.rejected:
        print(f"rejected: {reason}")
    print(f"{path}: {found.labelled} labels added, {found.before} were there, "
          f"{len(found.rejected)} geometries rejected ({source.method}"
          f"{', ' + source.partition if source.partition else ''})")
    return 0
