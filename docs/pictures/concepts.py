"""Draw the pictures of docs/concepts.md: python docs/pictures/concepts.py [FOLDER]"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR
from ase_fflux.model.frames import features_and_frames

ROOT = Path(__file__).resolve().parents[2]
INK, WARM, COLD = "#263238", "#c2410c", "#0f766e"


def one_dimension(axes, slopes):
    """A Gaussian process through five points of a curve, without and with their slopes."""
    def curve(x):
        return np.sin(3 * x) + 0.4 * x**2

    x, new, theta = np.array([-1.6, -0.9, 0.1, 0.9, 1.7]), np.linspace(-2.6, 2.6, 300), 1.5
    d = x[:, None] - x
    k = np.exp(-theta * d**2)
    blocks, y = [[k]], [curve(x)]
    at = new[:, None] - x
    row = [np.exp(-theta * at**2)]
    if slopes:
        dk = 2 * theta * d * k  # derivative by the second point
        blocks = [[k, dk], [dk.T, (2 * theta - 4 * theta**2 * d**2) * k]]
        y.append(3 * np.cos(3 * x) + 0.8 * x)
        row.append(2 * theta * at * row[0])
    matrix = np.block(blocks) + 1e-8 * np.eye(len(x) * len(y))
    row = np.hstack(row)
    mean = row @ np.linalg.solve(matrix, np.concatenate(y))
    variance = 1 - np.einsum("ij,ji->i", row, np.linalg.solve(matrix, row.T))
    error = np.sqrt(np.maximum(variance, 0))
    axes.fill_between(new, mean - 2 * error, mean + 2 * error, color=COLD, alpha=0.2, lw=0)
    axes.plot(new, curve(new), "--", color=INK, lw=1, label="truth")
    axes.plot(new, mean, color=COLD, label="prediction, two standard deviations")
    axes.plot(x, curve(x), "o", color=WARM, label="labels")
    axes.set(title="energies and gradients" if slopes else "energies alone", xlabel="geometry",
             yticks=[], xticks=[], ylim=(-3, 5))


def bond(axes):
    """What water's model says along an O-H bond: energy, error bar, coverage."""
    atoms = read(ROOT / "examples" / "water.xyz")
    oxygen, hydrogen, _ = np.argsort(-atoms.numbers, kind="stable")
    atoms.calc = FFLUX("water", on_low_coverage="ignore")
    lengths = np.linspace(0.8, 1.6, 41)
    rows = []
    for length in lengths:
        atoms.set_distance(oxygen, hydrogen, length, fix=0)
        error = atoms.calc.get_uncertainty(atoms).energy
        rows.append((atoms.get_potential_energy(), error, atoms.calc.coverage.min()))
    energy, error, coverage = np.transpose(rows)
    energy -= energy.min()
    axes.fill_between(lengths, energy - 2 * error, energy + 2 * error, color=COLD, alpha=0.3, lw=0)
    axes.plot(lengths, energy, color=COLD, label="energy, two standard deviations")
    axes.set(xlabel="O-H / Angstrom", ylabel="energy / eV", title="water, bundled model")
    beside = axes.twinx()
    beside.plot(lengths, coverage, color=WARM, ls=":", label="coverage")
    beside.set(ylim=(0, 1.05), ylabel="least coverage of an atom")
    lines = [*axes.get_lines(), *beside.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, fontsize=7)


def processes(path):
    """Gaussian processes: what slopes buy, what error bars and coverage tell."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    one_dimension(axes[0], slopes=False)
    one_dimension(axes[1], slopes=True)
    axes[0].legend(frameon=False, fontsize=7)
    bond(axes[2])
    figure.savefig(path, dpi=100)


def frame(path):
    """The local frame of ethanol's oxygen, and the features of one more atom."""
    model = FFLUX("ethanol").forcefield.models[0]
    symbols = np.array(model.symbols)
    oxygen = int(np.flatnonzero(symbols == "O")[0])
    _, axes = features_and_frames(model.reference_geometry[None], model.alf, oxygen)
    x = model.reference_geometry * BOHR
    flat = (x - x[oxygen]) @ axes[0].T
    flat[:, :2] += flat[:, 2:] * (0.3, 0.2)  # looked at a little from the side
    figure, plot = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for i in range(len(x)):
        for j in range(i):
            short = 1.25 if "H" in (symbols[i], symbols[j]) else 1.65
            if np.linalg.norm(x[i] - x[j]) < short:
                plot.plot(*flat[[i, j], :2].T, color="#b0bec5", lw=3, zorder=1)
    colours = {"C": "#455a64", "O": WARM, "H": "#eceff1"}
    for i in np.argsort(flat[:, 2]):
        plot.scatter(*flat[i, :2], s=260 if symbols[i] == "H" else 520, c=colours[symbols[i]],
                     edgecolors=INK, zorder=3 + flat[i, 2] / 10)
        plot.annotate(f"{symbols[i]}{i + 1}", flat[i, :2], ha="center", va="center", fontsize=8,
                      color=INK if symbols[i] == "H" else "white", zorder=5)
    for axis, name in (((1.0, 0), "x"), ((0, 1.0), "y")):
        plot.annotate("", axis, (0, 0), zorder=6,
                      arrowprops=dict(arrowstyle="->", color=COLD, lw=2))
        plot.annotate(name, np.multiply(axis, 1.12), color=COLD, ha="center", va="center",
                      fontsize=12)
    others = [i for i in range(len(x)) if i not in model.alf[oxygen]]
    far = max(others, key=lambda i: np.linalg.norm(flat[i, :2]))
    plot.plot(*flat[[oxygen, far], :2].T, "--", color=COLD, lw=1, zorder=2)
    plot.annotate(r"$R_n, \theta_n, \phi_n$", flat[[oxygen, far], :2].mean(axis=0) + (0, 0.18),
                  color=COLD, fontsize=11)
    plot.set_aspect("equal")
    plot.set(ylim=(None, 1.6))
    plot.axis("off")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    frame(folder / "frame.png")
    processes(folder / "processes.png")
