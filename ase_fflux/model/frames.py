"""Atomic local frames and the features of an atom in its frame, with their adjoint.

The frame of atom A is spanned by two other atoms, its ``alf`` row (A, x, xy): the x-axis points
from A to x, the y-axis to xy (orthogonalised against x), z = x cross y; rows of C are these axes.
Features (bohr, radian): f1 = |A x|, f2 = |A xy|, f3 = chi = the angle between them, then for every
other atom n in ascending order its spherical coordinates R, theta, phi in the frame, 3N - 6 in all
(Hughes, Thacker, Wilson, Popelier, J. Chem. Theory Comput. 2019, 15, 116). A diatomic molecule has
the distance alone.

Inside, features are extended by cosines and sines: F plain values, then cos f, then sin f, because
the kernel on an azimuth is a function of its cosine and sine; those of phi come for free.

The adjoint works with rotations of the frame: a displacement of the atoms turns the frame by a
small angle omega, so whatever depends on the frame (directions of other atoms, multipole moments)
enters through one torque.
"""

import numpy as np

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.jit import inner, njit

OK, LINEAR_FRAME, COINCIDENT, ON_Z_AXIS = 0, 1, 2, 3
_SMALL_SINE = 1e-5
_SMALL_LENGTH = 1e-6


def n_features(n_atoms: int) -> int:
    """Number of features of an atom in a molecule of n_atoms: 3N - 6, or 1 for a diatomic."""
    return 1 if n_atoms == 2 else 3 * n_atoms - 6


def raise_for_status(status: int, atom: str) -> None:
    """Raise the GeometryError that belongs to a status of `local_features`.

    Parameters
    ----------
    status : int
        One of the status constants of this module.
    atom : str
        The atom in words.
    """
    if status == LINEAR_FRAME:
        raise GeometryError(
            f"the local frame of {atom} is linear: the three atoms that define it are "
            "on one line; choose another frame (alf) for this atom when the model is trained"
        )
    if status == COINCIDENT:
        raise GeometryError(f"another atom is on the spot of {atom}; separate them")
    if status == ON_Z_AXIS:
        raise GeometryError(
            f"an atom is exactly on the z-axis of the local frame of {atom}, where "
            "its azimuth is undefined; displace it slightly"
        )


@inner
def local_features(coordinates, alf, atom, azimuth, ext, frame, zeta):
    """Extended features and frame of one atom; returns a status.

    coordinates (N, 3) bohr; alf (N, 3); ``azimuth``: whether plain phi values are needed. Out:
    ext (3F,), frame (3, 3), zeta (N, 3) coordinates of all atoms in the frame.
    """
    n_atoms = coordinates.shape[0]
    n = ext.shape[0] // 3
    a, ix, iy = alf[atom, 0], alf[atom, 1], alf[atom, 2]
    ux = coordinates[ix, 0] - coordinates[a, 0]
    uy = coordinates[ix, 1] - coordinates[a, 1]
    uz = coordinates[ix, 2] - coordinates[a, 2]
    f1 = np.sqrt(ux * ux + uy * uy + uz * uz)
    if f1 < _SMALL_LENGTH:
        return COINCIDENT
    ux, uy, uz = ux / f1, uy / f1, uz / f1
    if iy < 0:  # a diatomic molecule: any axis across the bond will do
        vx, vy, vz = 0.0, 0.0, 0.0
        if abs(ux) < 0.8:
            vx = 1.0
        else:
            vy = 1.0
    else:
        vx = coordinates[iy, 0] - coordinates[a, 0]
        vy = coordinates[iy, 1] - coordinates[a, 1]
        vz = coordinates[iy, 2] - coordinates[a, 2]
    f2 = np.sqrt(vx * vx + vy * vy + vz * vz)
    if f2 < _SMALL_LENGTH:
        return COINCIDENT
    vx, vy, vz = vx / f2, vy / f2, vz / f2
    zx, zy, zz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    sine = np.sqrt(zx * zx + zy * zy + zz * zz)
    if sine < _SMALL_SINE:
        return LINEAR_FRAME
    zx, zy, zz = zx / sine, zy / sine, zz / sine
    frame[0, 0], frame[0, 1], frame[0, 2] = ux, uy, uz
    frame[1, 0] = zy * uz - zz * uy
    frame[1, 1] = zz * ux - zx * uz
    frame[1, 2] = zx * uy - zy * ux
    frame[2, 0], frame[2, 1], frame[2, 2] = zx, zy, zz
    ext[0] = f1
    if iy < 0:
        return OK
    ext[1] = f2
    ext[2] = np.arctan2(sine, ux * vx + uy * vy + uz * vz)
    h = 3
    for other in range(n_atoms):
        if other == a or other == ix or other == iy:
            continue
        dx = coordinates[other, 0] - coordinates[a, 0]
        dy = coordinates[other, 1] - coordinates[a, 1]
        dz = coordinates[other, 2] - coordinates[a, 2]
        z0 = frame[0, 0] * dx + frame[0, 1] * dy + frame[0, 2] * dz
        z1 = frame[1, 0] * dx + frame[1, 1] * dy + frame[1, 2] * dz
        z2 = frame[2, 0] * dx + frame[2, 1] * dy + frame[2, 2] * dz
        zeta[other, 0], zeta[other, 1], zeta[other, 2] = z0, z1, z2
        rho = np.sqrt(z0 * z0 + z1 * z1)
        r = np.sqrt(rho * rho + z2 * z2)
        if r < _SMALL_LENGTH:
            return COINCIDENT
        if rho < _SMALL_LENGTH * r:
            return ON_Z_AXIS
        ext[h] = r
        ext[h + 1] = np.arctan2(rho, z2)
        if azimuth:
            ext[h + 2] = np.arctan2(z1, z0)
        ext[n + h + 2] = z0 / rho
        ext[2 * n + h + 2] = z1 / rho
        h += 3
    return OK


@inner
def add_frame_adjoint(coordinates, alf, atom, ext, frame, zeta, adjoint, torque, gradient):
    """Carry the adjoint of an atom's features and of its frame to the coordinates.

    adjoint (3F,) is dE/d ext (cos and sin images only of azimuths), torque (3,) is dE/d omega for
    a rotation of the frame, in components along its axes. Adds to gradient (N, 3), hartree/bohr.
    """
    n_atoms = coordinates.shape[0]
    n = ext.shape[0] // 3
    a, ix, iy = alf[atom, 0], alf[atom, 1], alf[atom, 2]
    t0, t1, t2 = torque[0], torque[1], torque[2]
    ga0, ga1, ga2 = 0.0, 0.0, 0.0
    h = 3
    if iy >= 0:
        for other in range(n_atoms):
            if other == a or other == ix or other == iy:
                continue
            z0, z1, z2 = zeta[other, 0], zeta[other, 1], zeta[other, 2]
            r = ext[h]
            cosine, sine = ext[n + h + 2], ext[2 * n + h + 2]
            rho = z0 * cosine + z1 * sine
            d_r = adjoint[h] / r
            d_theta = adjoint[h + 1] / (r * r)
            d_phi = (
                adjoint[h + 2] - sine * adjoint[n + h + 2] + cosine * adjoint[2 * n + h + 2]
            ) / rho
            radial = d_r * rho + d_theta * z2
            g0 = radial * cosine - d_phi * sine
            g1 = radial * sine + d_phi * cosine
            g2 = d_r * z2 - d_theta * rho
            t0 -= z1 * g2 - z2 * g1
            t1 -= z2 * g0 - z0 * g2
            t2 -= z0 * g1 - z1 * g0
            for k in range(3):
                gradient[other, k] += g0 * frame[0, k] + g1 * frame[1, k] + g2 * frame[2, k]
            ga0, ga1, ga2 = ga0 + g0, ga1 + g1, ga2 + g2
            h += 3
    f1 = ext[0]
    u0, u1, u2 = adjoint[0], t2 / f1, 0.0
    v0, v1, v2 = 0.0, 0.0, 0.0
    if iy >= 0:
        f2 = ext[1]
        cosine, sine = np.cos(ext[2]), np.sin(ext[2])
        # omega_x = (dv.z / f2 + cos omega_y) / sin, omega_y = -du.z / f1, omega_z = du.y / f1
        t1 += t0 * cosine / sine
        v2 = t0 / (f2 * sine)
        u1 -= adjoint[2] / f1
        v0 = adjoint[1] * cosine - adjoint[2] / f2 * sine
        v1 = adjoint[1] * sine + adjoint[2] / f2 * cosine
        for k in range(3):
            gradient[iy, k] += v0 * frame[0, k] + v1 * frame[1, k] + v2 * frame[2, k]
    u2 = -t1 / f1
    ga0, ga1, ga2 = ga0 + u0 + v0, ga1 + u1 + v1, ga2 + u2 + v2
    for k in range(3):
        gradient[ix, k] += u0 * frame[0, k] + u1 * frame[1, k] + u2 * frame[2, k]
        gradient[a, k] -= ga0 * frame[0, k] + ga1 * frame[1, k] + ga2 * frame[2, k]


def features(geometries: np.ndarray, alf: np.ndarray, atom: int) -> np.ndarray:
    """Features of one atom.

    Parameters
    ----------
    geometries : (G, N, 3) array
        Coordinates in bohr.
    alf : (N, 3) int array
        Local frames.
    atom : int
        Whose features.

    Returns
    -------
    (G, F) array
        Features in bohr and radian.

    Raises
    ------
    GeometryError
        Where a frame is linear or atoms coincide.
    """
    return features_and_frames(geometries, alf, atom)[0]


def features_and_frames(geometries, alf, atom: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (G, F) as `features`, and frames (G, 3, 3) whose rows are the local axes.

    The definition in numpy, for training sets; `local_features` is the same for one geometry, made
    for speed.
    """
    geometries = np.ascontiguousarray(geometries, dtype=float)
    n_atoms = geometries.shape[1]
    a, ix, iy = (int(i) for i in alf[atom])
    x, f1 = _normalised(geometries[:, ix] - geometries[:, a], atom)
    if iy < 0:  # a diatomic molecule: any axis across the bond will do
        towards, f2 = np.eye(3)[np.where(np.abs(x[:, 0]) < 0.8, 0, 1)], None
    else:
        towards, f2 = _normalised(geometries[:, iy] - geometries[:, a], atom)
    z = np.cross(x, towards)
    sine = np.linalg.norm(z, axis=-1)
    _check(sine < _SMALL_SINE, LINEAR_FRAME, atom)
    z /= sine[:, None]
    frames = np.stack([x, np.cross(z, x), z], axis=1)
    if iy < 0:
        return f1[:, None], frames
    columns = [f1, f2, np.arctan2(sine, np.einsum("gk,gk->g", x, towards))]
    others = [n for n in range(n_atoms) if n not in (a, ix, iy)]
    zeta = np.einsum("gij,gnj->gni", frames, geometries[:, others] - geometries[:, None, a])
    rho = np.hypot(zeta[..., 0], zeta[..., 1])
    r = np.hypot(rho, zeta[..., 2])
    _check((r < _SMALL_LENGTH).any(axis=1), COINCIDENT, atom)
    _check((rho < _SMALL_LENGTH * r).any(axis=1), ON_Z_AXIS, atom)
    theta, phi = np.arctan2(rho, zeta[..., 2]), np.arctan2(zeta[..., 1], zeta[..., 0])
    spherical = np.stack([r, theta, phi], axis=-1).reshape(len(geometries), -1)
    return np.hstack([np.column_stack(columns), spherical]), frames


def feature_jacobians(geometries, alf, atom: int) -> np.ndarray:
    """Derivatives (G, F, N, 3) of `features` with respect to the coordinates."""
    f = n_features(np.shape(geometries)[1])
    return extended_jacobians(geometries, alf, atom, np.arange(f))[1]


def extended_jacobians(geometries, alf, atom: int, slots) -> tuple[np.ndarray, np.ndarray]:
    """Extended features (G, 3F) of an atom and derivatives (G, C, N, 3) of C of them, ``slots``."""
    geometries = np.ascontiguousarray(geometries, dtype=float)
    n_geometries, n_atoms, _ = geometries.shape
    extended = np.empty((n_geometries, 3 * n_features(n_atoms)))
    jacobians = np.zeros((n_geometries, len(slots), n_atoms, 3))
    failure = _fill_jacobians(
        geometries, np.ascontiguousarray(alf, dtype=np.int64), atom, slots, True, extended,
        jacobians, np.zeros((3, 3)), np.zeros((n_atoms, 3)), np.zeros(extended.shape[1]),
        np.zeros(3),
    )
    raise_for_status(failure[1], f"atom {atom + 1} in geometry {failure[0] + 1}")
    return extended, jacobians


@njit
def _fill_jacobians(
    geometries, alf, atom, slots, azimuth, extended, jacobians, frame, zeta, adjoint, torque
):
    """Fill in `extended_jacobians`; (geometry, status) of the first failure, OK if there is none.

    The last four are for work, as `local_features` has them, all of them zero.
    """
    for j in range(geometries.shape[0]):
        status = local_features(geometries[j], alf, atom, azimuth, extended[j], frame, zeta)
        if status != OK:
            return j, status
        for c in range(slots.shape[0]):
            adjoint[slots[c]] = 1.0
            add_frame_adjoint(
                geometries[j], alf, atom, extended[j], frame, zeta, adjoint, torque, jacobians[j, c]
            )
            adjoint[slots[c]] = 0.0
    return 0, OK


def _normalised(vectors, atom):
    lengths = np.linalg.norm(vectors, axis=-1)
    _check(lengths < _SMALL_LENGTH, COINCIDENT, atom)
    return vectors / lengths[:, None], lengths


def _check(failed, status, atom):
    if failed.any():
        raise_for_status(status, f"atom {atom + 1} in geometry {int(np.argmax(failed)) + 1}")


def geometry_from_features(features: np.ndarray, alf_row, n_atoms: int) -> np.ndarray:
    """Coordinates (..., N, 3) in bohr that have features (..., F): A at the origin, x on +x.

    ``alf_row`` is the (A, x, xy) of the atom whose features they are.
    """
    features = np.asarray(features, dtype=float)
    coordinates = np.zeros((*features.shape[:-1], n_atoms, 3))
    a, ix, iy = alf_row
    coordinates[..., ix, 0] = features[..., 0]
    if iy < 0:
        return coordinates
    r, chi = features[..., 1], features[..., 2]
    coordinates[..., iy, 0], coordinates[..., iy, 1] = r * np.cos(chi), r * np.sin(chi)
    others = [n for n in range(n_atoms) if n not in (a, ix, iy)]
    r, theta, phi = (features[..., h::3] for h in (3, 4, 5))
    directions = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    coordinates[..., others, :] = r[..., None] * np.stack(directions, axis=-1)
    return coordinates
