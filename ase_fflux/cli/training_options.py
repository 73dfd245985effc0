"""Arguments that say how models are trained, and the settings they make.

Verbs import this module when their own arguments are wanted: it needs numpy and scipy for the
defaults, which are those of the settings' dataclasses.
"""

import argparse
from dataclasses import replace

from ase_fflux.base.errors import TrainingError
from ase_fflux.cli import options
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf, ParticleSwarm
from ase_fflux.learn.gp.selection import METHODS
from ase_fflux.learn.gp.settings import (
    COMBINATIONS,
    OBJECTIVES,
    SEEDINGS,
    TrainingSettings,
    Transfer,
)
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS, KERNELS

OPTIMISERS = {"l-bfgs": LBFGS, "grey-wolf": GreyWolf, "swarm": ParticleSwarm}
PROTOCOLS = ("tl", "dl")
_TRANSFER = {
    "fraction": "fractions", "sources": "sources", "combination": "combination",
    "selection": "selection", "seeding": "seeding", "no_curvature": "curvature",
    "relaxation": "relaxation",
}
"""Options of transfer learning: argument, and field of `Transfer`."""


def add_training(parser: argparse.ArgumentParser) -> None:
    """Everything that `settings_of` reads, in a group of its own."""
    usual, transfer = TrainingSettings(), Transfer()
    budgets = ", ".join(f"{make().budget} for {name}" for name, make in OPTIMISERS.items())
    add = parser.add_argument_group("training (for experts)").add_argument
    add("--protocol", choices=PROTOCOLS, default="tl",
        help="tl: transfer learning, length scales found on a small source set and readjusted in a "
        "few steps on all points; dl: direct learning, a full search on all points, the slow "
        "reference (default: %(default)s)")
    add("--optimiser", choices=list(OPTIMISERS), default="l-bfgs",
        help="l-bfgs uses analytic gradients and is by far the fastest; grey-wolf and swarm are "
        "the field's, to compare with published work (default: %(default)s)")
    add("--budget", type=options.natural, metavar="N",
        help="evaluations of a full search at most; raise it if the log shows searches that used "
        f"all of them (default: {budgets})")
    add("--objective", choices=list(OBJECTIVES), default=usual.objective,
        help="what is minimised: minus the likelihood with the prefactor eliminated "
        "(concentrated) or with prefactor 1 (marginal, as FEREBUS prints it), or the error of "
        "training points held out in turn; hold-out may help where energies are good but forces "
        "are not (default: %(default)s)")
    add("--kernel", choices=list(KERNELS), default=usual.kernel,
        help="periodic in the azimuths and RBF in distances and angles, or RBF in all, for "
        "programs that know no other (default: %(default)s)")
    add("--noise", type=options.positive, default=usual.noise, metavar="V",
        help="variance of the labels relative to the kernel's, dimensionless; raise it for noisy "
        "labels such as IQA integrals, or when a kernel matrix is not positive definite (default: "
        "%(default)g)")
    add("--learn-noise", action="store_true",
        help="search for the noise as well, between 1e-12 and 1e-2, instead of --noise (default: "
        "fixed)")
    add("--bounds", type=options.positive, nargs=2, default=usual.bounds, metavar=("LOW", "HIGH"),
        help="range of theta = 1/(2 length scale^2), in 1/bohr^2 or 1/radian^2; a lower HIGH keeps "
        "length scales long, for better forces and wavenumbers of small molecules (default: "
        f"{usual.bounds[0]:g} {usual.bounds[1]:g})")
    add("--theta-prior", type=options.positive, metavar="WIDTH",
        help="hold ln(theta) near the spread of the data by a normal prior of this standard "
        "deviation, 2 for instance; for few points with many features (default: none)")
    add("--seed", type=_seed, default=usual.seed, metavar="S",
        help="of everything random; the same seed gives the same model (default: %(default)s)")
    add("--fraction", type=options.positive, nargs="+", metavar="F",
        help="size of the source set relative to all points, between 0 and 1; several growing ones "
        "make a ladder of sources. Write it after the files "
        "(default: 0.1 0.3 0.6 for l-bfgs, 0.2 0.5 for the others)")
    add("--sources", type=options.natural, metavar="N",
        help="number of source sets; several cost more and depend less on chance (default: "
        f"{transfer.sources})")
    add("--combination", choices=COMBINATIONS,
        help="of several sources: the mean of their ln(theta), or the best on all points (default: "
        f"{transfer.combination})")
    add("--selection", choices=METHODS,
        help="of source points: random, stratified on the target's value, farthest from each "
        f"other, or of largest posterior variance (default: {transfer.selection})")
    add("--seeding", choices=SEEDINGS,
        help="full: take all length scales of the source over; partial: start those afresh whose "
        f"features the source switched off (default: {transfer.seeding})")
    add("--no-curvature", action="store_true", default=None,
        help="relax by an ordinary short search; by default the relaxation of l-bfgs begins with "
        "the source's information matrix (default: with it)")
    add("--relaxation", type=options.natural, metavar="N",
        help="evaluations on all points after the transfer; raise it if dl finds a much better "
        "objective (default: 4 for l-bfgs, 4 %% of the budget for the others)")


def add_joint_kernel(add, what: str) -> None:
    """Add the option of the kernel of energies that are learned with gradients, by the
    ``add_argument`` of a parser or group."""
    add(
        "--joint-kernel", choices=list(FORMS), metavar="FORM",
        help=f"{what} of the energies: rbf (squared exponential, the only one that .model files "
        "can hold), rq (rational quadratic), and rbf-inverse and rq-inverse, with distances as "
        "1/R; for labels without atomic energies also each of them with -terms: second frames and "
        "terms of distances beside the atoms (default: of the first four, or of these with -terms, "
        "what the likelihood and labels left out say)",
    )


def joint_settings_of(args: argparse.Namespace, partition: str) -> JointSettings:
    """Settings of energies that are learned with gradients, for atoms of a partition."""
    settings = JointSettings.of_atoms(partition)
    return replace(settings, forms=(FORMS[args.joint_kernel],)) if args.joint_kernel else settings


def settings_of(args: argparse.Namespace) -> TrainingSettings:
    """The settings that `add_training`'s arguments describe.

    Raises
    ------
    TrainingError
        Settings that make no sense, or options of transfer learning with ``--protocol dl``.
    """
    optimiser = OPTIMISERS[args.optimiser]
    given = {
        name: getattr(args, name) for name in _TRANSFER if getattr(args, name) is not None
    }
    if args.protocol == "dl" and given:
        option = next(iter(given)).replace("_", "-")
        raise TrainingError(
            f"--{option} belongs to transfer learning: leave it or --protocol dl out"
        )
    if "fraction" in given:
        given["fraction"] = tuple(given["fraction"])
    if "no_curvature" in given:
        given["no_curvature"] = False
    transfer = Transfer(**{_TRANSFER[name]: value for name, value in given.items()})
    return TrainingSettings(
        noise=args.noise, learn_noise=args.learn_noise, bounds=tuple(args.bounds),
        kernel=args.kernel, objective=args.objective, prior=args.theta_prior,
        optimiser=optimiser() if args.budget is None else optimiser(budget=args.budget),
        transfer=transfer if args.protocol == "tl" else None, seed=args.seed,
    )


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


_seed.__name__ = "whole number from 0"
