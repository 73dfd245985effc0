import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import GeometryError
from ase_fflux.learn.joint.points import class_points, internal_directions
from ase_fflux.model.frames import n_features
from ase_fflux.model.kernels import azimuths
from ase_fflux.model.symmetry import polar_angles

MOLECULES = ["water", "fluoromethane", "formaldehyde", "nitrogen"]


@pytest.mark.parametrize("molecule", MOLECULES)
def test_internal_directions_are_orthonormal_and_neither_translate_nor_rotate(
    make_labels, molecule
):
    x = make_labels(molecule, 5).geometries + [3.0, -7.0, 20.0]
    n_atoms = x.shape[1]
    directions = internal_directions(x)
    assert directions.shape == (5, 3 * n_atoms, n_features(n_atoms))
    for geometry, d in zip(x, directions, strict=True):
        np.testing.assert_allclose(d.T @ d, np.eye(d.shape[1]), atol=1e-13)
        moves = d.T.reshape(-1, n_atoms, 3)
        np.testing.assert_allclose(moves.sum(axis=1), 0.0, atol=1e-13)
        np.testing.assert_allclose(np.cross(geometry, moves).sum(axis=1), 0.0, atol=1e-11)


@pytest.mark.parametrize("molecule", MOLECULES)
def test_they_hold_all_of_a_gradient(make_labels, molecule):
    labels = make_labels(molecule, 5)
    d, g = internal_directions(labels.geometries), labels.gradients.reshape(5, -1)
    assert np.abs(g).max() > 1e-2
    np.testing.assert_allclose(np.einsum("nxd,nyd,ny->nx", d, d, g), g, atol=1e-14)


def columns_of(values):
    """Columns (n, C) of features (n, F): as they are, polar angles from pi/2; cosines; sines."""
    phi, polar = azimuths(values.shape[1]), polar_angles(values.shape[1])
    plain = np.where(polar, values - 0.5 * np.pi, values)[:, ~phi]
    return np.hstack([plain, np.cos(values[:, phi]), np.sin(values[:, phi])])


@pytest.mark.parametrize("molecule", MOLECULES)
def test_columns_are_those_of_the_first_atom_in_an_image(make_case, molecule):
    case = make_case(molecule, 4)
    for c, points in zip(case.data.classes, case.data.points, strict=True):
        assert points.columns.shape[:2] == (len(c.atoms), 4)
        np.testing.assert_array_equal(points.flat_columns[4:], points.columns[1:].reshape(
            -1, points.columns.shape[2]
        ))
        for columns, atom in zip(points.columns, c.atoms, strict=True):
            images = [columns_of(case.image(case.labels.geometries, o)[0])
                      for o in case.operations(atom)]
            views = [
                sign * columns[:, view]
                for view, sign in zip(points.view_column, points.view_sign, strict=True)
            ]
            assert len(views) == len(images)
            np.testing.assert_array_equal(views[0], columns)  # the identity is first
            for image in images:  # each of them is one view
                assert sum(np.allclose(image, view, atol=1e-12) for view in views) == 1


def test_there_are_views_and_mirrored_members_to_speak_of(make_case):
    classes = make_case("fluoromethane", 2).data.classes
    assert max(len(c.view_mirrored) for c in classes) > 1
    assert any(c.view_mirrored.any() for c in classes)
    assert [len(c.atoms) for c in classes] == [1, 1, 3]
    assert make_case("water", 2).data.classes[1].atoms == (1, 2)


@pytest.mark.parametrize("molecule", MOLECULES)
def test_slopes_are_changes_along_the_directions(make_case, molecule, central_differences):
    case = make_case(molecule, 2)
    x, directions = case.labels.geometries, case.data.directions
    for c, points in zip(case.data.classes, case.data.points, strict=True):
        def columns(t, c=c):
            moved = x + np.einsum("nxd,d->nx", directions, t).reshape(x.shape)
            return class_points(moved, directions, case.alf, c).columns

        slopes = central_differences(columns, np.zeros(directions.shape[2]))
        np.testing.assert_allclose(np.moveaxis(slopes, 0, -1), points.slopes, atol=1e-10)


def test_place_and_orientation_do_not_matter(make_case, make_labels, observe, shapes):
    case = make_case("fluoromethane", 3)
    turn = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    for c, points in zip(case.data.classes, case.data.points, strict=True):
        moved = case.labels.geometries @ turn + [5.0, 1.0, -3.0]
        directions = internal_directions(moved)
        again = class_points(moved, directions, case.alf, c)
        np.testing.assert_allclose(again.columns, points.columns, atol=1e-12)
        # slopes along other directions of the same space have the same products
        products = [np.einsum("mncd,mned->mnce", p.slopes, p.slopes) for p in (again, points)]
        np.testing.assert_allclose(*products, atol=1e-11)


def test_selected_points(make_case):
    points = make_case("water", 5).data.points[1]
    some = points.select([3, 1])
    np.testing.assert_array_equal(some.columns, points.columns[:, [3, 1]])
    np.testing.assert_array_equal(some.slopes, points.slopes[:, [3, 1]])
    np.testing.assert_array_equal(some.view_column, points.view_column)


def test_features_that_are_not_defined_name_the_geometry(make_case):
    case = make_case("water", 3)
    x = case.labels.geometries.copy()
    x[1, 2] = 2 * x[1, 0] - x[1, 1]  # in line
    with pytest.raises(GeometryError, match="geometry 2"):
        class_points(x, internal_directions(x), case.alf, case.data.classes[0])
