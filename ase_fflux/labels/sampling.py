"""Geometries to label: hot molecular dynamics and small displacements around the minima.

Everything follows from a seed, so that an interrupted run can be continued where it stopped: the
same call with ``skip`` yields the remaining geometries. Within an unfinished trajectory that means
repeating its dynamics, which is deterministic with single-threaded forces. Where frames are kept
with their momenta, the dynamics go on from the last one instead (``before``).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from ase_fflux.base.errors import LabelError
from ase_fflux.base.rigid import internal_motions
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.topology import Connectivity

logger = logging.getLogger(__name__)

TIME_STEP = 0.5
"""fs; 1/18 of the period of the fastest X-H stretch."""

FRICTION = 0.01
"""1/fs; thermalises within 0.1 ps."""

STRIDE = 20.0
"""fs between frames."""

EQUILIBRATION = 1000.0
"""fs before the first frame of a trajectory."""

MAX_RESTARTS = 20
"""Times that a trajectory may lose its molecule."""

DISPLACEMENT = 0.03
"""Angstrom; of the atom that moves most, in displacements along one mode each. Moments learned with
a relative noise of 1e-8 have derivatives within a few percent from there; half of it leaves twice
the error, twice of it is no longer linear."""

SOFT_DISPLACEMENT = 0.1
"""Angstrom; largest rms displacement of an atom along one normal mode. Beyond it a straight
displacement no longer resembles a torsion."""


@dataclass(frozen=True)
class Portion:
    """Part of a sample.

    Parameters
    ----------
    kind : {"md", "nm"}
        Molecular dynamics, or displacements along normal modes.
    temperature : float
        Kelvin.
    share : float
        Of all geometries; spread evenly over the conformers.
    stride_fs : float
        Time between frames of dynamics (fs).
    """

    kind: Literal["md", "nm"]
    temperature: float
    share: float
    stride_fs: float = STRIDE

    def __post_init__(self):
        if self.kind not in ("md", "nm"):
            raise LabelError(f"unknown kind of sample {self.kind!r}: 'md' or 'nm'")
        if not self.share > 0:
            raise LabelError(f"the share of a sample must be above zero, not {self.share}")

    @property
    def origin(self) -> str:
        """Tag such as ``md500K``."""
        return f"{self.kind}{self.temperature:g}K"


def sample(
    conformers: Sequence[Atoms], source, portions: Sequence[Portion], count: int, seed: int, *,
    skip: int = 0, hessians: Sequence[np.ndarray] | None = None,
    before: Sequence[Atoms] | None = None,
) -> Iterator[tuple[str, Atoms]]:
    """Geometries of all portions and conformers in turn, in proportion to their shares.

    The first geometries of a larger sample are those of a smaller one, so that a sample can grow.

    Parameters
    ----------
    conformers : sequence of Atoms
        Minima of the source, atoms in the same order (and chemically equivalent atoms, such as the
        hydrogens of a methyl group, with the same handedness).
    source : LabelSource
        Its engine gives the dynamics, its Hessians the displacements.
    portions : sequence of Portion
        What to sample.
    count : int
        Number of geometries.
    seed : int
        Seed; every portion of every conformer has a stream of random numbers of its own.
    skip : int
        Number of geometries at the beginning to leave out, such as those already labelled. The
        dynamics that lead to the next ones are repeated.
    hessians : sequence of (3N, 3N) array, optional
        Second derivatives at the conformers (hartree/bohr^2); by default the source calculates
        what it needs.
    before : sequence of Atoms, optional
        The first geometries, as they were drawn: these are left out, and dynamics go on from the
        last frames of them with other random numbers, nothing being repeated.

    Yields
    ------
    origin : str
        Tag of the portion.
    atoms : Atoms
        Geometry, centred on its centre of mass, of dynamics with momenta.

    Raises
    ------
    LabelError
        If a conformer is not a minimum or a molecule does not survive the dynamics.
    """
    streams = [
        (portion.share / len(conformers), portion, conformer, [seed, p, c])
        for p, portion in enumerate(portions) for c, conformer in enumerate(conformers)
    ]
    shares = np.array([share for share, *_ in streams])
    shares /= shares.sum()
    turns, drawn = [], np.zeros(len(streams), dtype=int)
    for k in range(count):
        # the stream that is farthest behind its share; rounded, so that ties go to the first
        turns.append(int(np.argmax(np.round(shares * (k + 1) - drawn, 9))))
        drawn[turns[-1]] += 1
    known: dict[int, np.ndarray] = dict(enumerate(hessians or ()))
    geometries: dict[int, Iterator[Atoms]] = {}
    skip = skip if before is None else len(before)
    left_out = np.bincount(turns[:skip], minlength=len(streams)).tolist()
    last = dict(zip(turns, before or (), strict=False))
    for turn in turns[skip:]:
        _, portion, conformer, stream = streams[turn]
        if turn not in geometries:
            if portion.kind == "md":
                missing = int(drawn[turn])
                if turn in last:
                    stream = [*stream, left_out[turn]]
                    missing, left_out[turn] = missing - left_out[turn], 0
                frames = molecular_dynamics(
                    conformer, source.engine, portion.temperature, missing, seed=stream,
                    stride_fs=portion.stride_fs, after=last.get(turn),
                )
            else:
                c = stream[2]
                if c not in known:
                    known[c] = source.hessian(conformer)
                frames = iter(normal_mode_displacements(
                    conformer, known[c], portion.temperature, int(drawn[turn]), seed=stream
                ))
            geometries[turn] = islice(frames, left_out[turn], None)
        yield portion.origin, next(geometries[turn])


def molecular_dynamics(
    atoms: Atoms, engine, temperature: float, n_frames: int, *, seed, stride_fs: float = STRIDE,
    after: Atoms | None = None,
) -> Iterator[Atoms]:
    """Frames of a Langevin trajectory with their momenta, one at a time.

    Translation and rotation are thermal like the vibrations (no constraint distorts the canonical
    distribution); frames are centred. Where a bond breaks or forms, a hydrogen bond between the
    fragments of a cluster opens or the engine fails, the trajectory goes on from its last intact
    frame with new velocities, and says so in the log.

    Parameters
    ----------
    atoms : Atoms
        Start, a minimum; its bonds are those to be kept.
    engine : Engine
        ``engine.calculator()`` gives the forces.
    temperature : float
        Kelvin.
    n_frames : int
        Number of frames after `EQUILIBRATION`.
    seed : int or sequence of int
        Seed of numpy's default generator.
    stride_fs : float
        Time between frames (fs).
    after : Atoms, optional
        A frame with momenta that it goes on from, without `EQUILIBRATION`.

    Raises
    ------
    LabelError
        If the molecule is lost more than `MAX_RESTARTS` times.
    """
    rng = np.random.default_rng(seed)
    connectivity = Connectivity(atoms.numbers, atoms.positions / BOHR)
    moving = Atoms(atoms.numbers, atoms.positions, calculator=engine.calculator())
    dynamics = Langevin(
        moving,
        TIME_STEP * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=rng,
    )
    frame = -round(EQUILIBRATION / stride_fs)
    if after is None:
        _set_thermal_momenta(moving, temperature, rng)
    else:
        moving.positions, frame = after.positions, 0
        moving.set_momenta(after.get_momenta())
    steps = max(1, round(stride_fs / TIME_STEP))
    intact = moving.positions.copy()
    restarts = 0
    while frame < n_frames:
        try:
            dynamics.run(steps)
            change = connectivity.change(moving.positions / BOHR)
        except LabelError as error:
            change = str(error)
        if change:
            restarts += 1
            text = f"{temperature:g} K trajectory of {atoms.symbols}, frame {frame}: {change}"
            if restarts > MAX_RESTARTS:
                raise LabelError(f"{text}; lost {restarts} times, sample at a lower temperature")
            logger.warning("%s; going on from the last intact frame", text)
            moving.positions = intact
            _set_thermal_momenta(moving, temperature, rng)
            continue
        moving.positions -= moving.get_center_of_mass()
        intact = moving.positions.copy()
        if frame >= 0:
            yield Atoms(atoms.numbers, intact, momenta=moving.get_momenta())
        frame += 1


def sampling_steps(frames: int, trajectories: int, stride_fs: float = STRIDE) -> int:
    """Steps of dynamics that so many frames of so many trajectories take."""
    return round((frames * stride_fs + trajectories * EQUILIBRATION) / TIME_STEP)


def _set_thermal_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    scale = np.sqrt(atoms.get_masses() * (units.kB * temperature))
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * scale[:, None])


def normal_mode_displacements(
    minimum: Atoms, hessian: np.ndarray, temperature: float, n: int, *, seed
) -> list[Atoms]:
    """Draw from the classical harmonic distribution around a minimum.

    Mass-weighted normal coordinates are Gaussian with variance k T / omega^2; translations and
    rotations are projected out; soft modes are capped at `SOFT_DISPLACEMENT`.

    Parameters
    ----------
    minimum : Atoms
        Minimum of the surface that the Hessian belongs to.
    hessian : (3N, 3N) array
        Second derivatives (hartree/bohr^2).
    temperature : float
        Kelvin.
    n : int
        Number of geometries.
    seed : int or sequence of int
        Seed of numpy's default generator.

    Raises
    ------
    LabelError
        If a mode is imaginary.
    """
    curvatures, modes = normal_modes(minimum, hessian)
    if curvatures[0] <= 0:
        raise LabelError(
            f"{minimum.symbols} is not at a minimum (mode of "
            f"{imaginary_wavenumber(curvatures[0]):.0f}i cm^-1); optimise it "
            "tightly with the label source, or displace it along that mode and optimise again"
        )
    kt = temperature * units.kB / HARTREE
    rms = np.sqrt(kt / curvatures)
    directions = modes.T.reshape(-1, len(minimum), 3) / np.sqrt(_masses(minimum))[:, None]
    reach = np.linalg.norm(directions, axis=2).max(axis=1)
    rms = np.minimum(rms, SOFT_DISPLACEMENT / BOHR / reach)
    amplitudes = np.random.default_rng(seed).standard_normal((n, len(rms))) * rms
    # one at a time: rounded alike whatever their number, so that a sample can grow
    positions = np.array([np.tensordot(a, directions, axes=1) for a in amplitudes]) * BOHR
    positions += minimum.positions - minimum.get_center_of_mass()
    return [Atoms(minimum.numbers, x) for x in positions]


def mode_displacements(minimum: Atoms, hessian: np.ndarray) -> list[Atoms]:
    """Displacements up and down every normal mode, from which derivatives at a minimum are learned.

    Parameters
    ----------
    minimum : Atoms
        Minimum of the surface that the Hessian belongs to.
    hessian : (3N, 3N) array
        Second derivatives (hartree/bohr^2).

    Returns
    -------
    list of Atoms
        Two for each internal mode, the softest first; the atom that moves most moves by
        `DISPLACEMENT`.
    """
    _, modes = normal_modes(minimum, hessian)
    directions = modes.T.reshape(-1, len(minimum), 3) / np.sqrt(_masses(minimum))[:, None]
    directions *= DISPLACEMENT / np.linalg.norm(directions, axis=2).max(axis=1)[:, None, None]
    return [
        Atoms(minimum.numbers, minimum.positions + sign * direction)
        for direction in directions for sign in (1, -1)
    ]


def _masses(atoms: Atoms) -> np.ndarray:
    """Masses in electron masses."""
    return atoms.get_masses() * units._amu / units._me


def normal_modes(atoms: Atoms, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """omega^2 (atomic units, ascending) and orthonormal mass-weighted modes (columns)."""
    masses = _masses(atoms)
    _, internal = internal_motions(atoms.positions, masses)
    weights = np.repeat(np.sqrt(masses), 3)
    values, vectors = np.linalg.eigh(internal @ (matrix / np.outer(weights, weights)) @ internal.T)
    return values, internal.T @ vectors


def wavenumber(curvature: float) -> float:
    """cm^-1 of a mode with omega^2 of zero or above (atomic units)."""
    return float(np.sqrt(curvature) * HARTREE / units.invcm)


def imaginary_wavenumber(curvature: float) -> float:
    """cm^-1 of a mode with omega^2 below zero (atomic units)."""
    return wavenumber(-curvature)
