"""``fflux build``: make a model for a molecule."""

import argparse
from pathlib import Path

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.text import quantities, size_of_file
from ase_fflux.cli import options

_LABELS, _ENERGIES_ONLY = 300, 2000
_TEST_TEMPERATURE = 300.0
_DEAR_LABELS, _DEAR_FRAMES, _DEAR_STRIDE = 150, 50, 100.0
"""Ab initio: fewer labels, test frames farther apart (fs)."""
_WITH_PRIOR = 25
"""On top of a prior."""

_DESCRIPTION = """\
Make a model for a molecule, from GFN2-xTB labels by default: optimise, sample, label, train, test
on a separate trajectory, and report. All frames of FILE are taken as conformers, --conformers looks
for others; mirror images are added.

The model learns all atomic energies and the total gradient together, and equivalent atoms learn
from each other. Options of training below concern the moments, or all with --energies-only.

Labels are GFN2-xTB's own decomposition of its energy into atoms, its charges, atomic dipoles and
quadrupoles. They are not IQA energies. With --reference pyscf they are, ab initio: geometries still
come from GFN2-xTB's dynamics, and those that leave the model the least error are chosen for a label
(--design); minima, second derivatives and labels come from PySCF. What that costs is said after the
first label. At B3LYP/6-31+G(d,p) one takes a core about 1 s for water, 10 s for 9 atoms and 30 s
for 12; a build of 9 atoms labels some 250 geometries for each minimum and takes two cores half an
hour, of 12 atoms two hours.

Needs tblite, and PySCF for the latter: pip install 'ase-fflux[all]' 'ase-fflux[pyscf]'
"""

_EPILOG = """\
example:
  fflux build ethanol.xyz -o ethanol.fflux --conformers
  fflux opt ethanol.xyz --model ethanol.fflux
  fflux build ethanol.xyz --reference pyscf --prior gfn2 -o ethanol-b3lyp.fflux

The working folder NAME-build keeps minima and labels (extended xyz). A build that was interrupted
goes on where it stopped when it is started again; no finished label is lost. The last line of the
report says what more labels would bring: the same command with a larger --labels adds them. A
model that is there is kept as NAME.fflux.~1~. NAME-report.html has errors, learning curve, parity
plots and minima for a browser.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.label import add_source
    from ase_fflux.cli.training_options import add_joint_kernel, add_training

    parser = subparsers.add_parser("build", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "geometry", metavar="FILE", help="conformers, same atoms in the same order in every frame"
    )
    options.add_reading(parser)
    parser.add_argument(
        "-o", "--output", metavar="MODEL.fflux",
        help="bundle to write (default: FILE's name with .fflux in the current directory)",
    )
    options.add_search(parser, asked=True)
    add = parser.add_argument
    expert = parser.add_argument_group("for experts").add_argument
    add("--labels", type=options.natural, metavar="N",
        help=f"training labels (default: {_LABELS}, with --reference pyscf {_DEAR_LABELS}, with "
        f"--energies-only {_ENERGIES_ONLY}, with --prior {_WITH_PRIOR}); the same command with a "
        "larger N adds to those that are there")
    expert("--test-temperature", type=options.kelvin, metavar="T",
        help="of the test trajectory, in K (default: 300, or --temperature where that is lower)")
    add("--temperature", type=options.kelvin, default=500.0, metavar="T",
        help="of the dynamics that half of them come from, in K (default: %(default)g); lower it "
        "for what falls apart")
    add("--goal", type=options.positive, default=0.02, metavar="F",
        help="force RMSE on the test trajectory, in eV/A, that is good enough: the report says how "
        "many labels it needs (default: %(default)g)")
    add("--stop", action="store_true",
        help="stop labelling after a quarter or half of the labels if the goal is reached by then "
        "(default: use all)")
    expert("--energies-only", action="store_true",
        help="learn from atomic energies alone, each atom by itself, as FFLUX models usually do: "
        "needs many more labels (default: from energies and total gradients together)")
    expert("--no-symmetry", action="store_true",
        help="let equivalent atoms learn apart, and no label from its mirror image (default: with "
        "symmetry)")
    expert("--test-frames", type=options.natural, metavar="N",
        help=f"frames of the test trajectory (default: 500, with --reference pyscf {_DEAR_FRAMES} "
        "five times as far apart)")
    add_source(parser, "gfn2")
    add("--design", choices=("V", "mix"),
        help="training geometries: V, those of a pool from GFN2-xTB that leave the least error (as "
        "fflux select has it), or a mix of dynamics and displacements from the minima (default: V "
        "with --reference pyscf, else mix)")
    add("--prior", metavar="MODEL",
        help="learn the difference to this model of the same molecule or of a lighter analogue; "
        "or to one of GFN2-xTB, which gfn2 makes first of labels that cost nothing, as "
        "NAME-prior.fflux. The bundle holds both and predicts their sum (default: none)")
    add("--workers", type=options.natural, metavar="N",
        help="processes of one thread each that label ab initio (default: as many as cores)")
    add("--charge", type=int, default=0, metavar="Q", help="total charge (default: 0)")
    add("--spin", type=_unpaired, metavar="N",
        help="unpaired electrons, through spin-polarised GFN2-xTB (default: 0, unless two have a "
        "lower energy, which is refused)")
    expert("--memory", type=options.positive, metavar="GB",
        help="that the training may use; gradients that do not fit are left out, with a warning "
        "(default: half of the machine's)")
    add_joint_kernel(expert, "kernel")
    options.add_json(parser)
    add_training(parser)
    parser.set_defaults(seed=1)


def _unpaired(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


_unpaired.__name__ = "number of unpaired electrons"


def _designed(args: argparse.Namespace, source) -> bool:
    """Whether training geometries are chosen before they are labelled."""
    from ase_fflux.labels.source import LabelSource

    cheap = source.engine is not source and isinstance(source.engine, LabelSource)
    if args.design == "V" and not cheap:
        raise FFLUXError(
            f"--design V chooses by the labels of a cheaper level, and {source.method} has none: "
            "use --design mix, or fflux select with a model"
        )
    return args.design == "V" or (args.design is None and cheap and not args.energies_only)


def _prior(args: argparse.Namespace, conformers, output: Path, training):
    """What the model stands on top of."""
    from dataclasses import replace

    from ase_fflux.base.units import BOHR
    from ase_fflux.labels.folder import LabelSettings
    from ase_fflux.labels.references import label_source
    from ase_fflux.learn.joint.settings import JointSettings
    from ase_fflux.training.prior import read_prior
    from ase_fflux.workflows.cheap_prior import cheap_prior

    if args.prior is None:
        return None
    if args.prior != "gfn2":
        first = conformers[0]
        return read_prior(args.prior, first.get_chemical_symbols(), first.positions / BOHR)
    if args.reference == "gfn2":
        raise FFLUXError(
            "--prior gfn2 is for labels of a dearer --reference: GFN2-xTB is its own here"
        )
    source = label_source("gfn2", charge=args.charge, spin=args.spin)
    sampling = LabelSettings(
        temperature=args.temperature,
        test_temperature=args.test_temperature or min(_TEST_TEMPERATURE, args.temperature),
        seed=args.seed,
    )
    cheap = replace(training, energies=JointSettings.of_atoms(source.partition))
    return cheap_prior(
        conformers, output, source, sampling, cheap, options.search_of(args), args.command,
        options.progress, print,
    )


def _training(args: argparse.Namespace, partition: str):
    """How the model is trained on labels whose atoms are of a partition."""
    from ase_fflux.cli.training_options import joint_settings_of, settings_of
    from ase_fflux.training.joint import JointTraining

    settings = settings_of(args)
    if not args.energies_only:
        return JointTraining(
            joint_settings_of(args, partition), settings,
            symmetry=not args.no_symmetry, memory=args.memory,
        )
    for name, value in (
        ("--stop", args.stop), ("--no-symmetry", args.no_symmetry), ("--memory", args.memory),
        ("--prior", args.prior), ("--joint-kernel", args.joint_kernel),
    ):
        if value:
            raise FFLUXError(f"{name} does not go with --energies-only: leave one of them out")
    return settings


def run(args: argparse.Namespace) -> int:
    """Build a model and print its errors."""
    from ase_fflux.assess.build_page import PAGE
    from ase_fflux.assess.validate import table
    from ase_fflux.base.claims import held
    from ase_fflux.base.machine import cores
    from ase_fflux.cli.label import source_of
    from ase_fflux.formats.geometry import output_stem, read_frames
    from ase_fflux.labels.folder import LabelSettings
    from ase_fflux.labels.sampling import STRIDE
    from ase_fflux.workflows.build import BuildSettings, build

    conformers = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    output = Path(options.prefix_of(args.output, output_stem(args.geometry) + ".fflux"))
    if output.suffix != ".fflux":
        output = output.with_name(output.name + ".fflux")
    folder = output.with_name(output.stem + "-build")
    dear = args.reference != "gfn2"
    sampling = LabelSettings(
        temperature=args.temperature,
        test_frames=args.test_frames or (_DEAR_FRAMES if dear else 500),
        test_temperature=args.test_temperature or min(_TEST_TEMPERATURE, args.temperature),
        test_stride=_DEAR_STRIDE if dear else STRIDE, seed=args.seed,
    )
    usual = _DEAR_LABELS if dear else _LABELS
    usual = _WITH_PRIOR if args.prior else usual
    usual = _ENERGIES_ONLY if args.energies_only else usual
    source = source_of(args, spin=args.spin)
    settings = BuildSettings(
        args.labels or usual, sampling, args.goal, args.stop, options.search_of(args),
        _designed(args, source),
    )
    training = _training(args, source.partition)
    try:
        with held(str(output).removesuffix(output.suffix), args.command):
            result = build(
                conformers, output, source, settings, training,
                folder, command=args.command, progress=options.progress, say=print,
                workers=(args.workers or cores()) if dear else 1,
                prior=_prior(args, conformers, output, training),
            )
    except KeyboardInterrupt:
        print(f"\ninterrupted; labels are kept in {folder}: the same command goes on from there")
        return 130
    args.summary = {
        "command": args.command, "input": args.geometry,
        "level_of_theory": source.method, "test_frames": result.test.frames,
        "minima": len(result.minima),
        "errors": result.model.provenance["errors"],
        "learning_curve": result.model.provenance["learning_curve"],
        "files": [str(output), f"{output.with_suffix('')}{PAGE}"],
        "versions": result.model.provenance["versions"],
    }
    print(f"wrote {output} ({size_of_file(output.stat().st_size)}, "
          f"{len(result.model.geometries)} training geometries)")
    print(f"wrote {output.with_suffix('')}{PAGE}")
    print(f"errors against {source.method}, {result.test.frames} frames at "
          f"{sampling.test_temperature:g} K and {len(result.minima)} minim"
          f"{'um' if len(result.minima) == 1 else 'a'}:")
    for line in quantities(table(result.test, result.minima)):
        print(line)
    if result.curve is not None:
        print(result.curve.advice(settings.goal))
    return 0
