"""Geometries of a file labelled one after the other."""

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.workflows.labelling import label_geometries


def _frames(*lengths):
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, x]]) for x in lengths]
    for k, frame in enumerate(frames):
        frame.info["origin"] = f"scan{k}"
    return frames


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_are_kept_and_continued(tmp_path, workers, spring_source):
    path, source = tmp_path / "l.xyz", spring_source()
    first = label_geometries(_frames(0.7, 1.5, 0.8), source, path, workers=workers)
    assert (first.labelled, first.before) == (2, 0)
    assert first.rejected == ["frame 2: H2 is too long"]
    source.asked = 0
    again = label_geometries(_frames(0.7, 0.75, 0.8), source, path)
    assert (again.labelled, again.before, source.asked) == (1, 2, 1)
    found = read_dataset(path)
    np.testing.assert_allclose(found.geometries[:, 1, 2] * BOHR, [0.7, 0.8, 0.75], atol=1e-11)
    assert list(found.origins) == ["scan0", "scan2", "scan1"]


def test_an_interruption_loses_nothing(tmp_path, monkeypatch, spring_source):
    path, source = tmp_path / "l.xyz", spring_source()
    label = source.label

    def stops(atoms):
        if source.asked == 2:
            raise KeyboardInterrupt
        return label(atoms)

    monkeypatch.setattr(source, "label", stops)
    with pytest.raises(KeyboardInterrupt):
        label_geometries(_frames(0.7, 0.71, 0.72, 0.73), source, path)
    assert len(read_dataset(path)) == 2


def test_files_of_something_else_are_refused(tmp_path, spring_source):
    path, source = tmp_path / "l.xyz", spring_source()
    label_geometries(_frames(0.7), source, path)
    source.settings = {"k": 2}
    with pytest.raises(LabelError, match="other settings .k 1 instead of k 2."):
        label_geometries(_frames(0.8), source, path)
    source.method = "rods"
    with pytest.raises(LabelError, match="other method .springs instead of rods."):
        label_geometries(_frames(0.8), source, path)
    with pytest.raises(LabelError, match="frame 2 is of He, frame 1 of H2"):
        label_geometries([*_frames(0.8), Atoms("He")], source, path)


def test_what_can_never_be_labelled_leaves_no_file(tmp_path, spring_source):
    frames = _frames(0.7)
    frames[0].pbc = True
    with pytest.raises(LabelError, match="periodic"):
        label_geometries(frames, spring_source(), tmp_path / "l.xyz")
    assert not (tmp_path / "l.xyz").exists()
