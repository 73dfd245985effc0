"""Builds on top of a model of a cheap level that is made first."""

from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.cli.main import main
from ase_fflux.formats.bundle import read_bundle
from ase_fflux.labels import sampling
from ase_fflux.workflows import cheap_prior

pytest.importorskip("tblite.interface", exc_type=ImportError)

REFERENCE = f"ase:{Path(__file__).stem}:gfn1"


def gfn1():
    """The dear level of these tests."""
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(sampling, "EQUILIBRATION", 20.0)
    monkeypatch.setattr(sampling, "TIME_STEP", 2.0)
    monkeypatch.setattr(cheap_prior, "LABELS", 24)
    write("water.xyz", molecule("H2O"))


def build(*options):
    return main(["build", "water.xyz", "--test-frames", "3", *options])


def test_a_cheap_model_is_made_first_and_kept(capsys):
    # twenty labels of short dynamics hardly tell kernels apart; the test frames are farther out
    kernel = "--joint-kernel", "rq-inverse"
    command = "--reference", REFERENCE, "--prior", "gfn2", "--labels", "20", *kernel
    assert build(*command) == 0
    said = capsys.readouterr().out
    assert "the prior: 24 labels of GFN2-xTB" in said and "20 labels on top of water-prior" in said
    model = read_bundle("water.fflux")
    assert model.prior.model.provenance["label_source"] == "GFN2-xTB"
    assert model.prior.bundle == Path("water-prior.fflux").read_bytes()
    assert model.provenance["errors"]["force RMSE"]["value"] < 0.02
    before = Path("water-prior.fflux").stat().st_mtime_ns
    assert build(*command) == 0
    assert "the prior is water-prior.fflux, which was made before" in capsys.readouterr().out
    assert Path("water-prior.fflux").stat().st_mtime_ns == before
    assert not Path("water-prior.fflux.~1~").exists()


def test_a_model_as_prior_is_checked_before_anything_is_labelled(capsys):
    for options, message in (
        (("--prior", "ethanol"), "the prior ethanol is of C2H6O, the labels are of H2O"),
        (("--prior", "gfn2"), "--prior gfn2 is for labels of a dearer --reference"),
        (("--prior", "water", "--energies-only"), "--prior does not go with --energies-only"),
    ):
        assert build(*options) == 2
        assert message in capsys.readouterr().err
    assert not Path("water-build").exists()
