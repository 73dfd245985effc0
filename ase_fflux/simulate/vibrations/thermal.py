"""Infrared spectra from dynamics: trajectories in equilibrium, their spectra, bands beside the
harmonic ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.md.dynamics import Dynamics
from ase_fflux.simulate.md.settings import DynamicsSettings
from ase_fflux.simulate.vibrations.analysis import Vibrations
from ase_fflux.simulate.vibrations.infrared import DECADIC
from ase_fflux.simulate.vibrations.spectral import (
    PER_CM,
    absorptivity,
    aligned,
    highest_wavenumber,
    mode_density,
)

_THERMALISED = 1.0
"""ps under the thermostat before a block: ten times its relaxation."""

_GAP = 100.0
"""cm^-1 without a harmonic mode, which divides bands."""

_BESIDE = 150.0
"""cm^-1 around the modes of a band that belong to it at most: farther out are combinations."""

_LOWEST = 30.0
"""cm^-1; below, a spectrum shows slow drifts."""

_MARGIN = 1.05
"""Times the highest harmonic wavenumber that frames must be able to show."""


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of trajectory: positions (m, N, 3) in Angstrom and dipoles (m, 3) in e Angstrom."""

    positions: np.ndarray
    dipoles: np.ndarray


@dataclass(frozen=True, eq=False)
class ThermalSpectra:
    """Spectra of several blocks.

    Attributes
    ----------
    wavenumbers : (k,) array
        cm^-1.
    absorptivity : (b, k) array
        Decadic molar absorptivity of each block (L mol^-1 cm^-1).
    modes : (b, k) array
        Modes per cm^-1 of each block.
    temperature : float
        K.
    spacing : float
        Interval of the frames (fs).
    frames : int
        Of each block.
    """

    wavenumbers: np.ndarray
    absorptivity: np.ndarray
    modes: np.ndarray
    temperature: float
    spacing: float
    frames: int

    @property
    def resolution(self) -> float:
        """Full width at half maximum of a sharp line under the Hann window (cm^-1)."""
        return 1.44 / (self.frames * self.spacing * PER_CM)


@dataclass(frozen=True)
class Band:
    """Modes that lie together: wavenumbers (cm^-1), intensities (km/mol), with standard errors.

    ``centre`` is the mean wavenumber weighted by intensity.
    """

    start: float
    end: float
    modes: int
    harmonic_centre: float
    harmonic_intensity: float
    centre: float
    centre_error: float
    intensity: float
    intensity_error: float


def require_spacing(spacing: float, modes: Vibrations) -> None:
    """Refuse frames too far apart to show the highest mode, which would be seen at a lower one.

    Raises
    ------
    FFLUXError
        What they show, and what is needed.
    """
    highest = float(modes.wavenumbers.max())
    shown = highest_wavenumber(spacing)
    if shown < _MARGIN * highest:
        needed = spacing * shown / (_MARGIN * highest)
        raise FFLUXError(
            f"frames {spacing:g} fs apart show nothing above {shown:.0f} cm-1 and the highest "
            f"harmonic mode is at {highest:.0f}: they must be {needed:.2g} fs apart or less"
        )


def thermal_blocks(
    atoms: Atoms, *, temperature: float, blocks: int, time: float, timestep: float, interval: int,
    seed: int, advance: Callable[[int], None] = lambda steps: None,
) -> Iterator[Block]:
    """Constant-energy dynamics from starts in thermal equilibrium.

    Each block starts from the end of the one before, under a thermostat for 1 ps, and then runs
    without: a thermostat would broaden the lines.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator that has dipoles.
    temperature : float
        K.
    blocks : int
        Number of trajectories.
    time : float
        Of each (ps).
    timestep : float
        fs.
    interval : int
        Steps from one frame to the next.
    seed : int
        Of all of them.
    advance : callable
        Called with numbers of steps done.
    """
    current = atoms.copy()
    current.calc = atoms.calc
    current.set_constraint()
    for block in range(blocks):
        heated = Dynamics(current, DynamicsSettings(
            ensemble="nvt", temperature=temperature, time=_THERMALISED, timestep=timestep,
            interval=1, seed=seed + block,
        ))
        for _ in range(heated.settings.steps):
            heated.advance()
            advance(1)
        heated.sample()  # refuses what has left physics
        start = heated.start.copy()
        start.positions = heated.atoms.positions
        start.set_momenta(heated.atoms.get_momenta())
        start.calc = atoms.calc
        free = Dynamics(start, DynamicsSettings(
            ensemble="nve", time=time, timestep=timestep, interval=interval
        ))
        positions, dipoles = [], []
        for _ in range(free.settings.steps // interval):
            positions.append(free.atoms.get_positions())
            dipoles.append(free.atoms.get_dipole_moment())
            for _ in range(interval):
                free.advance()
            advance(interval)
        free.sample()
        current = free.start.copy()
        current.positions = free.atoms.positions
        current.calc = atoms.calc
        yield Block(np.array(positions), np.array(dipoles))


def steps_of(blocks: int, time: float, timestep: float) -> int:
    """Steps that `thermal_blocks` takes."""
    return blocks * (round(1000 * _THERMALISED / timestep) + round(1000 * time / timestep))


def thermal_spectra(
    blocks: list[Block], reference: Atoms, *, spacing: float, temperature: float,
    timestep: float = 0.0,
) -> ThermalSpectra:
    """Spectra of equally long blocks in the frame of the molecule.

    Parameters
    ----------
    blocks : list of Block
        At least two, for errors.
    reference : Atoms
        Geometry that frames are laid onto, such as the minimum.
    spacing, temperature, timestep
        As for `absorptivity`.
    """
    if len(blocks) < 2:
        raise FFLUXError("one block has no error bar: take two or more")
    masses = reference.get_masses()
    light, motion = [], []
    for block in blocks:
        x, dipoles = aligned(block.positions, block.dipoles, reference.positions, masses)
        wavenumbers, a = absorptivity(dipoles, spacing, temperature, timestep)
        light.append(a)
        motion.append(mode_density(x, masses, spacing, temperature, timestep)[1])
    return ThermalSpectra(
        wavenumbers, np.array(light), np.array(motion), temperature, spacing,
        len(blocks[0].dipoles),
    )


def bands(spectra: ThermalSpectra, modes: Vibrations) -> list[Band]:
    """Bands of the harmonic modes and what dynamics make of them."""
    real = modes.wavenumbers > 0
    lines, heights = modes.wavenumbers[real], modes.ir_intensities[real]
    gaps = np.flatnonzero(np.diff(lines) > _GAP)
    inner = (lines[gaps] + lines[gaps + 1]) / 2
    edges = [_LOWEST, *inner.tolist(), np.inf]
    x = spectra.wavenumbers
    found = []
    for start, end in zip(edges, edges[1:], strict=False):
        mine = (lines >= start) & (lines < end)
        if not mine.any():
            continue
        start, end = max(start, lines[mine][0] - _BESIDE), min(end, lines[mine][-1] + _BESIDE)
        here = (x >= start) & (x < end)
        areas = np.trapezoid(spectra.absorptivity[:, here], x[here], axis=1) / DECADIC
        firsts = np.trapezoid(x[here] * spectra.absorptivity[:, here], x[here], axis=1) / DECADIC
        centres = firsts / areas
        root = np.sqrt(len(areas))
        weight = heights[mine].sum()
        share = heights[mine] / weight if weight > 0 else np.full(mine.sum(), 1 / mine.sum())
        found.append(Band(
            float(start), float(end), int(mine.sum()), float(lines[mine] @ share),
            float(weight), float(firsts.sum() / areas.sum()), float(centres.std(ddof=1) / root),
            float(areas.mean()), float(areas.std(ddof=1) / root),
        ))
    return found
