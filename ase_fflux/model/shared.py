"""Processes that equivalent atoms share, in the compact form in which they are trained and stored.

A label of a molecule with m equivalent atoms, each with V images of itself, stands for V m training
points of one process. Kept are the weights of the m n points; their images and, of a model trained
on gradients, the weights on kernel derivatives follow from the geometries.
"""

from dataclasses import dataclass

import numpy as np

from ase_fflux.model.frames import feature_jacobians, features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.symmetry import AtomClass, Symmetry, polar_angles, reflection_signs
from ase_fflux.model.terms import TermProcess


@dataclass(frozen=True, eq=False)
class SharedProcess:
    r"""Posterior mean of P properties of m equivalent atoms, trained at n labels.

    .. math:: P(f) = m + \sum_{v,a,j} \chi_v \big[ w_{aj} + s^2 (T_v J_{aj} \beta_j) \cdot
              \nabla \big] k(f, T_v f_{aj})

    with the images T_v of the first atom, the sign chi of a moment under reflection, and the dual
    weights beta of the total gradients, which all processes of a molecule have in common.

    Attributes
    ----------
    atoms : AtomClass
        Whose process it is.
    properties : tuple of str
        Names of the outputs.
    kernel : Kernel
        In the order of the first atom's features; features that images exchange have one theta.
    mean : (P,) array
    weights : (P, m, n) array
        In atomic units of the properties; those of a reflected atom's odd moments refer to the
        negative of the moment. n is the number of labels, or, of moments, with those of
        `Shared.moment_geometries`.
    noise : float
        Variance of the targets relative to the prefactor.
    variance : float
        Prior variance s^2 (hartree^2) of an energy trained on gradients, else 0.
    """

    atoms: AtomClass
    properties: tuple[str, ...]
    kernel: Kernel
    mean: np.ndarray
    weights: np.ndarray
    noise: float
    variance: float = 0.0

    def expand(self, geometries, alf, gradient_weights=None) -> GaussianProcess:
        """The process with every image written out.

        Parameters
        ----------
        geometries : (n, N, 3) array
            Training geometries (bohr).
        alf : (N, 3) int array
            Local frames.
        gradient_weights : (n, N, 3) array, optional
            Dual weights of the total gradients (bohr/hartree); needed where ``variance`` > 0.

        Returns
        -------
        GaussianProcess
            V m n inputs, image by image, atom by atom, label by label.
        """
        members, atoms = self.atoms.atoms, self.atoms
        inputs = np.stack([
            transformed(features(geometries, alf, atom), order, mirrored, np.pi)
            for atom, order, mirrored in zip(members, atoms.order, atoms.mirrored, strict=True)
        ])
        slopes = None
        if self.variance > 0:
            slopes = np.stack([
                transformed(
                    np.einsum(
                        "jfnk,jnk->jf", feature_jacobians(geometries, alf, atom), gradient_weights
                    ), order, mirrored, 0.0,
                )
                for atom, order, mirrored in zip(members, atoms.order, atoms.mirrored, strict=True)
            ])
        signs = reflection_signs(self.properties)
        all_inputs, all_weights, all_slopes = [], [], []
        for order, mirrored in zip(atoms.view_order, atoms.view_mirrored, strict=True):
            sign = signs if mirrored else np.ones_like(signs)
            all_inputs.append(transformed(inputs, order, mirrored, np.pi))
            all_weights.append(sign[:, None, None] * self.weights)
            if slopes is not None:
                all_slopes.append(transformed(slopes, order, mirrored, 0.0))
        f = inputs.shape[-1]
        return GaussianProcess(
            np.concatenate(all_inputs).reshape(-1, f), self.kernel, self.mean,
            np.concatenate(all_weights, axis=1).reshape(len(signs), -1), self.noise,
            None if slopes is None
            else self.variance * np.concatenate(all_slopes).reshape(1, -1, f),
        )


def transformed(values: np.ndarray, order: np.ndarray, mirrored: bool, turn: float) -> np.ndarray:
    """Features (..., F) in another order, polar angles reflected to turn - theta if mirrored."""
    values = values[..., order]
    if mirrored:
        polar = polar_angles(values.shape[-1])
        values[..., polar] = turn - values[..., polar]
    return values


@dataclass(frozen=True, eq=False)
class SecondFrames:
    """A second process of the energies of equivalent atoms, for frames whose axes are exchanged.

    What is alike in one frame need not be in another: the sum of both knows less of which atoms
    were chosen for the axes. Weights are those of the total energies and gradients.

    Attributes
    ----------
    atoms : AtomClass
        In frames of `alf.exchanged_axes`.
    kernel : Kernel
    variance : float
        Prior variance s^2 (hartree^2).
    """

    atoms: AtomClass
    kernel: Kernel
    variance: float


@dataclass(frozen=True, eq=False)
class Totals:
    """Total energies among the n labels of a training.

    Attributes
    ----------
    weights : (n,) array
        Their dual weights (1/hartree), zero for labels whose total was not observed. They are in
        the weights of all processes of energies already.
    noise : tuple of float
        Standard deviations of totals from each source (hartree).
    with_energies : (e,) int array
        Labels whose atomic energies were observed.
    """

    weights: np.ndarray
    noise: tuple[float, ...]
    with_energies: np.ndarray


@dataclass(frozen=True, eq=False)
class Shared:
    """All processes of a molecule in their compact form.

    Attributes
    ----------
    symmetry : Symmetry
        Operations that the model knows of.
    processes : tuple of SharedProcess
    gradient_weights : (n, N, 3) array or None
        Dual weights of the total gradients (bohr/hartree), zero for labels without gradient.
    energy_noise, gradient_noise : tuple of float
        Standard deviations of labels from each source (hartree, hartree/bohr).
    source : (n,) int array, optional
        Number of the source of each label; default: one source.
    moment_geometries : (E, N, 3) array, optional
        Geometries (bohr), beside those of the n labels, that moments alone are trained on.
    totals : Totals, optional
        What was trained on total energies; without it, every label had atomic energies.
    terms : tuple of TermProcess
        Parts of the energy that belong to no atom, where atomic energies are latent.
    second : tuple of SecondFrames
        Second processes of the atoms there.
    """

    symmetry: Symmetry
    processes: tuple[SharedProcess, ...]
    gradient_weights: np.ndarray | None = None
    energy_noise: tuple[float, ...] = (0.0,)
    gradient_noise: tuple[float, ...] = (0.0,)
    source: np.ndarray | None = None
    moment_geometries: np.ndarray | None = None
    totals: Totals | None = None
    terms: tuple[TermProcess, ...] = ()
    second: tuple[SecondFrames, ...] = ()

    @property
    def latent(self) -> bool:
        """Whether no label had atomic energies: they are what makes up totals and gradients."""
        return self.totals is not None and not len(self.totals.with_energies)

    def trained_on(self, process: SharedProcess, geometries: np.ndarray) -> np.ndarray:
        """Training geometries of a process, of n labels at (n, N, 3) geometries (bohr)."""
        if self.moment_geometries is None or process.weights.shape[2] == len(geometries):
            return geometries
        return np.concatenate([geometries, self.moment_geometries])

    @property
    def n_processes(self) -> int:
        """Number of processes of single atoms that these stand for."""
        return sum(len(process.atoms.atoms) for process in self.processes)
