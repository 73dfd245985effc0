"""Anharmonic wavenumbers as lines for a screen and as entries of a summary."""

from ase_fflux.base.text import aligned
from ase_fflux.simulate.vibrations.analysis import Vibrations
from ase_fflux.simulate.vibrations.anharmonic import Anharmonic


def format_levels(vibrations: Vibrations, levels: Anharmonic) -> list[str]:
    """Harmonic and anharmonic fundamentals side by side, resonances below."""
    rows = [("mode", "harmonic/cm-1", "VPT2/cm-1", "shift/cm-1")]
    pairs = zip(vibrations.wavenumbers, levels.wavenumbers, strict=True)
    rows += [
        (str(number), f"{harmonic:.1f}", f"{found:.1f}", f"{found - harmonic:+.1f}")
        for number, (harmonic, found) in enumerate(pairs, 1)
    ]
    lines = [
        f"Anharmonic fundamentals (VPT2 from a quartic force field, {levels.evaluations} forces)",
        *aligned(rows, range(4)),
    ]
    if levels.resonances:
        said = ", ".join(
            f"{'2 x ' + str(i + 1) if i == j else f'{i + 1} + {j + 1}'} with {k + 1}"
            for i, j, k in levels.resonances
        )
        lines.append(
            f"Fermi resonances, which are diagonalised (modes: {said}); fundamentals in them are "
            "the levels with the largest share"
        )
    return lines


def summary(vibrations: Vibrations, levels: Anharmonic) -> dict:
    """The same and x_ij, JSON-able."""
    return {
        "method": "VPT2",
        "wavenumbers_per_cm": levels.wavenumbers,
        "harmonic_wavenumbers_per_cm": vibrations.wavenumbers,
        "constants_per_cm": levels.constants,
        "resonances": [[i + 1, j + 1, k + 1] for i, j, k in levels.resonances],
        "force_evaluations": levels.evaluations,
    }
