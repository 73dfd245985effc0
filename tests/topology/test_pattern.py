import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.topology import Pattern

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("name", "count"),
    [("H2O", 2), ("NH3", 6), ("CH4", 24), ("C6H6", 12), ("CH3CH2OH", 12), ("HCl", 1)],
)
def test_automorphisms(model, name, count):
    pattern = model(name)
    assert len(np.unique(pattern.automorphisms, axis=0)) == count


def test_fragments_of_a_dimer(formic_acid_dimer):
    pattern = Pattern.from_geometry("formic_acid_dimer", *formic_acid_dimer())
    assert pattern.fragment.tolist() == [0] * 5 + [1] * 5
    assert len(pattern.automorphisms) == 2


class TestHandedness:
    def pattern(self, geometry, name):
        numbers, x = geometry(name)
        return Pattern.from_geometry(name, numbers, x), x

    def test_one_sign_for_each_atom_of_four_neighbours(self, geometry):
        for name, centres in (
            ("CH4", 1), ("CH3CH2OH", 2), ("C6H6", 0), ("H2O", 0), ("NH3", 0), ("isobutane", 4)
        ):
            pattern, x = self.pattern(geometry, name)
            signs = pattern.handedness(x[None])
            assert signs.shape == (1, centres) and (np.abs(signs) == 1).all()

    @quick
    @given(seeds)
    def test_turns_keep_it_and_mirrors_invert_it(self, geometry, seed):
        pattern, x = self.pattern(geometry, "CH3CH2OH")
        rng = np.random.default_rng(seed)
        turned = Rotation.random(rng=rng).apply(x) + rng.normal(size=3)
        signs = pattern.handedness(np.array([x, turned, -turned]))
        np.testing.assert_array_equal(signs[1], signs[0])
        np.testing.assert_array_equal(signs[2], -signs[0])

    def test_exchange_of_two_hydrogens_inverts_their_centre_alone(self, geometry):
        pattern, x = self.pattern(geometry, "CH3CH2OH")  # C 0 (H 6, 7, 8), C 1 (H 4, 5)
        before = pattern.handedness(x[None])[0]
        for exchanged, factors in (((4, 5), [1, -1]), ((6, 7), [-1, 1])):
            order = np.arange(9)
            order[list(exchanged)] = exchanged[::-1]
            np.testing.assert_array_equal(pattern.handedness(x[None, order])[0], factors * before)

    def test_neighbours_in_a_plane_have_none(self, geometry):
        pattern, x = self.pattern(geometry, "CH4")
        flat = x * [1, 1, 1e-5]  # but for rounding
        np.testing.assert_array_equal(pattern.handedness(np.array([flat, 1e3 * x]))[:, 0], [
            0, pattern.handedness(x[None])[0, 0]
        ])
