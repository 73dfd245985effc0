"""``fflux select``: which geometries of a pool are worth a label."""

import argparse

from ase_fflux.cli import options

_DESCRIPTION = """\
Choose geometries to label, before there is any label: those that leave a model the least error at a
target. All frames of POOL are candidates, of one molecule, atoms in the same order. Writes in the
current directory:
  NAME-select.xyz    the choice in its order: any first part of it is a choice as well
  NAME-select.csv    expected errors of forces and energies with 1, 2, ... labels
  NAME-select.json   summary: all numbers, settings and versions
  NAME-select.png    picture

How the energy depends on the geometry is known from a model (--model), such as one of a cheap
level, or else from GFN2-xTB, which labels the pool (needs tblite). Expected errors are scaled by
what models of that level have that learn from the same geometries, with --model by its errors at
labels left out.
"""

_EPILOG = """\
example:
  fflux select pool.xyz -n 50 --with-report
  fflux label pool-select.xyz -o labels.xyz
  fflux train labels.xyz --gradients

The target is where the model is to be good: by default frames of the pool, those that stand for
dynamics at 300 K and for the surroundings of minima, weighted by their energies. A pool should have
both: dynamics somewhat hotter, and displacements from the minima. Criteria: V, the least mean
variance of forces and energies at the target; G, the least largest one; D, what is known least;
farthest, the largest distance from what is chosen; random. V is the best of them below some 100
labels. With --exchange the choice is better by its criterion, hardly by true errors.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.learn.joint.criteria import CRITERIA

    parser = subparsers.add_parser("select", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("geometry", metavar="POOL", help="geometries to choose from, one in each frame")
    options.add_reading(parser)
    add("-n", "--labels", type=options.natural, default=50, metavar="N",
        help="how many to choose (default: %(default)s)")
    add("--model", metavar="MODEL",
        help="model trained on gradients, whose length scales and variances are taken (default: "
        "what GFN2-xTB's labels of the pool tell)")
    add("--target", metavar="FRAMES",
        help="geometries at which errors count, atoms in the order of POOL (default: frames of the "
        "pool)")
    add("--criterion", choices=CRITERIA, default="V", help="see below (default: %(default)s)")
    add("--exchange", action="store_true",
        help="exchange what was chosen by V or D for other frames while that makes the choice as a "
        "whole better: takes some ten times as long")
    add("--with-report", action="store_true",
        help="add what a goal needs: degrees of freedom, fewest labels, expected number of labels")
    add("--goal", type=options.positive, default=0.02, metavar="F",
        help="force RMSE at the target, in eV/A, for the report (default: %(default)g)")
    add("--charge", type=int, default=0, metavar="Q",
        help="total charge, for GFN2-xTB (default: 0)")
    add("--seed", type=int, default=0, metavar="S",
        help="of what is drawn at random (default: %(default)s)")
    options.add_output(parser, "-select")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Choose, write and say what to expect."""
    import numpy as np

    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.base.text import printable
    from ase_fflux.workflows.feasibility import feasibility, format_feasibility
    from ase_fflux.workflows.select import select
    from ase_fflux.workflows.select_files import (
        SUFFIXES,
        format_exchange,
        format_selection,
        write_selection,
    )

    pool, own = _read(args)
    files = OutputFiles(options.output_prefix(args, "-select"), SUFFIXES)
    for file in (args.geometry, args.target):
        if file is not None:
            files.require_apart(file)
    process = _process(args, [*pool, *own])
    target, what = _target(args, process, pool, own)
    print(f"{len(pool)} frames of {pool[0].get_chemical_formula()}, target: {what}")
    found = select(
        process, np.arange(len(pool)), target, args.labels, args.criterion,
        exchanging=args.exchange, seed=args.seed, progress=options.progress,
    )
    report = feasibility(process, target, found, args.goal) if args.with_report else None
    with files.made_anew(args.command):
        write_selection(
            found, process, pool, files,
            title=f"{args.labels} of {len(pool)} frames of {printable(args.geometry)}",
            about={
                "command": args.command, "pool": args.geometry, "criterion": args.criterion,
                "length_scales": process.origin, "target": what,
            }, report=report,
        )
    args.summary = files[".json"]
    if found.exchanged is not None:
        print(format_exchange(found.exchanged, args.criterion))
    print(f"expected with labels in this order, length scales of {process.origin}:")
    print("\n".join(format_selection(found)))
    if report is not None:
        print("\n".join(format_feasibility(report)))
    print("wrote", ", ".join(files.written))
    return 0


def _read(args: argparse.Namespace) -> tuple[list, list]:
    """Frames of the pool and of a target of its own, where there is one."""
    from ase_fflux.base.errors import FFLUXError
    from ase_fflux.base.text import printable
    from ase_fflux.formats.geometry import read_frames
    from ase_fflux.learn.joint.criteria import EXCHANGED

    if args.model and args.charge:
        raise FFLUXError("--charge is for GFN2-xTB: leave it out with --model")
    if args.exchange and args.criterion not in EXCHANGED:
        raise FFLUXError(
            f"--exchange is for --criterion {' or '.join(EXCHANGED)}, not for {args.criterion}"
        )
    pool = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    own = [] if args.target is None else read_frames(args.target, vacuum=args.vacuum)
    check_frames(pool, printable(args.geometry), pool[0])
    check_frames(own, printable(args.target or ""), pool[0])
    if args.labels > len(pool):
        raise FFLUXError(
            f"{printable(args.geometry)} has {len(pool)} frames: -n {args.labels} is more than that"
        )
    return pool, own


def _process(args: argparse.Namespace, frames: list):
    """What a model knows of the frames, or GFN2-xTB."""
    from ase_fflux.base.machine import cores
    from ase_fflux.formats.locate import load_molecule
    from ase_fflux.labels.references import label_source
    from ase_fflux.workflows.select import process_of_model, process_of_source

    if args.model:
        return process_of_model(load_molecule(args.model), frames)
    source = label_source("gfn2", charge=args.charge)
    source.check(frames[0])
    return process_of_source(
        source, frames, seed=args.seed, progress=options.progress, workers=cores()
    )


def _target(args: argparse.Namespace, process, pool: list, own: list):
    """Where errors count, and what that is in words."""
    import numpy as np

    from ase_fflux.base.text import printable
    from ase_fflux.workflows.select import Target, thermal_target

    if own:
        target = Target.of(np.arange(len(pool), len(pool) + len(own)))
        return target, f"{len(own)} frames of {printable(args.target)}"
    target = thermal_target(process.energies, len(pool[0]), seed=args.seed)
    return target, (
        f"{len(target.places)} frames of the pool, as of dynamics at 300 K and near minima"
    )


def check_frames(frames, where: str, first) -> None:
    """Refuse frames of other atoms than the first of the pool, and periodic ones.

    Raises
    ------
    FFLUXError
        Names the file and the frame, counted from 1.
    """
    from ase_fflux.base.errors import FFLUXError

    for number, atoms in enumerate(frames, 1):
        if atoms.numbers.tolist() != first.numbers.tolist():
            raise FFLUXError(
                f"{where}, frame {number} is {atoms.symbols}, the first of the pool "
                f"{first.symbols}: one molecule is needed, atoms in the same order"
            )
        if atoms.pbc.any():
            raise FFLUXError(
                f"{where}, frame {number} is periodic; only molecules are labelled: if the cell is "
                'only a box, set pbc="F F F", or give --vacuum'
            )
