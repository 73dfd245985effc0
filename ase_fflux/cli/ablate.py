"""``fflux ablate``: show what each step of the training protocol buys."""

import argparse
from pathlib import Path

from ase_fflux.base.text import aligned
from ase_fflux.cli import options

_DESCRIPTION = """\
Train one model by direct learning, by the protocol that the options describe, and by this protocol
with one step changed at a time. Print time, objective and error at held-out points, and write
  PREFIX-ablation.csv    every run, as soon as it is finished
  PREFIX-ablation.json   summary with settings and the steps of every run
  PREFIX-ablation.png    error against time

INPUT is a labelled dataset (labels.xyz of `fflux build`) or a training set of one atom (.csv of
FEREBUS, pyFEREBUS or ichor).
"""

_EPILOG = """\
examples:
  fflux ablate ethanol-build/labels.xyz --test ethanol-build/test.xyz --atom C1
  fflux ablate METHANOL_C1_TRAINING_SET.csv --test METHANOL_C1_VALIDATION_SET.csv

variants, besides selections, seedings, numbers and sizes of sources:
  direct             direct learning
  protocol           transfer learning as the options describe it
  seed only          length scales of the sources as they are, not relaxed on all points
  full relaxation    relaxed until that ends by itself or by the budget of a full search
  without curvature  relaxed by an ordinary search
  without ladder     relaxed on all points at once
  one rung more      a source half as large, first relaxed on one of the protocol's size
  from H5 iqa        length scales of a model of the same molecule instead of a source

The table has medians over seeds: seconds (in all, and on sources and rungs), evaluations of the
objective on all points, its values where these began and ended, and errors. DL/x is the time of
direct learning over that of a variant, x/DL a variant's error over that of direct learning.

Times are wall times: let it run alone on the computer, best with OMP_NUM_THREADS=1. Exit status:
0 done, 2 error, 130 interrupted (finished runs are in the .csv file).
"""

_SUFFIXES = ("-ablation.csv", "-ablation.json", "-ablation.png")


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.training_options import add_training

    parser = subparsers.add_parser("ablate", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("input", metavar="INPUT", help="labelled dataset, or training set of one atom (.csv)")
    add("--test", metavar="FILE",
        help="held-out points, of the same kind as INPUT (default: a tenth of INPUT's points)")
    add("--atom", metavar="A", help="atom of a dataset, C1 or 1 (default: the first)")
    add("--property", default="iqa", metavar="P",
        help="iqa, or a moment such as q00 (default: %(default)s)")
    add("--repeat", type=options.natural, default=3, metavar="N",
        help="runs of every variant, with seeds from --seed on (default: %(default)s)")
    add("-o", "--output", metavar="PREFIX",
        help="beginning of all output names (default: INPUT's name, in the current directory); "
        "files already there are kept as NAME.~1~, NAME.~2~, ...")
    options.add_json(parser)
    add_training(parser)


def run(args: argparse.Namespace) -> int:
    """Train all variants, print and write what they did."""
    from ase_fflux.assess.curves import unit_of
    from ase_fflux.base.outputs import OutputFiles, versions, write_json
    from ase_fflux.cli.training_options import settings_of
    from ase_fflux.plots.ablation import plot_ablation
    from ase_fflux.workflows.ablation import (
        DIRECT,
        PROTOCOL,
        ablate,
        in_unit,
        medians,
        records,
        variants,
        write_runs,
    )
    from ase_fflux.workflows.ablation_points import read_points

    settings = settings_of(args)
    plans = variants(settings)
    points = read_points(
        Path(args.input), args.test and Path(args.test), args.atom, args.property, settings.seed
    )
    unit = unit_of(args.property)
    count, features = points.features.shape
    what = f"{points.name}: {count} points, {features} features"
    print(f"{what}; {len(points.test_features)} points held out")
    files = OutputFiles(options.prefix_of(args.output, Path(args.input).stem), _SUFFIXES)
    if moved := files.set_aside():
        print(moved)
    finished = []
    total = args.repeat * (len(plans) + len(points.related))
    with options.progress("training", total) as advance:

        def on_finished(one):
            finished.extend(in_unit([one], unit))
            write_runs(files["-ablation.csv"], finished, unit)
            advance(1)

        ablate(points, settings, range(settings.seed, settings.seed + args.repeat), on_finished)
    rows = medians(finished)
    write_json(files["-ablation.json"], {
        "command": args.command, "input": args.input, "test": args.test, "model": points.name,
        "points": count, "features": features, "held_out": len(points.test_features),
        "unit_of_rmse": unit.name, "settings": settings.record(), "medians": rows,
        "runs": records(finished), "versions": versions(),
    })
    args.summary = files["-ablation.json"]
    seeds = "1 seed" if args.repeat == 1 else f"medians of {args.repeat} seeds"
    plot_ablation(
        rows, files["-ablation.png"], direct=DIRECT, protocol=PROTOCOL,
        title=f"{what}; {seeds}", unit=unit.name,
    )
    for line in _table(rows, unit.name):
        print(line)
    print("wrote", ", ".join(files.written))
    return 0


def _table(rows: dict[str, dict], unit: str) -> list[str]:
    """Lines of the table of medians."""
    columns = (
        ("time/s", "seconds", ".3g"), ("sources/s", "source_seconds", ".2g"),
        ("DL/x", "time_ratio", ".1f"), ("evaluations", "full_evaluations", ".0f"),
        ("objective from", "start", "#.7g"), ("to", "objective", "#.7g"),
        (f"RMSE/{unit}", "rmse", "#.4g"), ("lowest", "lowest_rmse", "#.4g"),
        ("highest", "highest_rmse", "#.4g"), ("x/DL", "rmse_ratio", ".3f"),
    )
    lines = [("variant", *(head for head, *_ in columns))]
    lines += [(name, *(f"{row[key]:{form}}" for _, key, form in columns))
              for name, row in rows.items()]
    return aligned(lines, range(1, len(columns) + 1))
