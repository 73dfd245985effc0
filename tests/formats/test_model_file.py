import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import ModelError
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.formats.atom_model import AtomModel
from ase_fflux.formats.model_file import read_model, write_model
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess

N = 24
PUBLISHED = {"water": 0.199, "ammonia": 0.115, "methanol": 0.579, "glycine": 0.862}


def fortran(x):
    """As FEREBUS prints: no zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{x:.16G}")


def exponent(d, kinds):
    """Independent of ase_fflux.model.kernels: sum over features of what a file's text says."""
    e = 0.0
    for (kind, factor), dims, theta in kinds:
        for h, t in zip(dims, theta, strict=True):
            delta = d[..., h - 1]
            if kind == "periodic":
                e = e + factor * t * np.sin(delta / 2) ** 2
            elif kind == "wrapped" and h == 6:
                e = e + t * np.angle(np.exp(1j * delta)) ** 2
            else:
                e = e + t * delta**2
    return e


def training_set(seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([
        rng.uniform(1.7, 2.2, (N, 2)), rng.uniform(1.6, 2.0, N), rng.uniform(1.7, 2.2, N),
        rng.uniform(0.3, 2.7, N), rng.uniform(-np.pi, np.pi, N),
    ])
    y = -54.9 + 0.02 * np.sin(x[:, 0] + x[:, 3]) * np.cos(x[:, 5])
    return x, y


def model_text(kinds, *, noise=1e-8, header="# [metadata]\n# program ferebus\n# nugget {noise}\n",
               written=None, mean="type constant\nvalue {m}", key="theta", number=repr,
               composition=None, scale_noise=False):
    """Text of a file whose weights solve the equations of ``kinds``."""
    x, y = training_set()
    m = 0.0 if "zero" in mean else float(np.mean(y))
    k = np.exp(-exponent(x[:, None] - x[None], kinds))
    w = np.linalg.solve(k + noise * np.eye(N), y - m)
    stated = noise * np.std(y, ddof=1) if scale_noise else noise
    written = written or [kind for (kind, _), _, _ in kinds]
    names = [f"k{i + 1}" for i in range(len(kinds))]
    lines = [
        header.format(noise=stated), "[system]", "name AMMONIA", "atom N1", "property iqa",
        "ALF 1 2 3", "", "[dimensions]", "number_of_atoms 4", "number_of_features 6",
        f"number_of_training_points {N}", "", "[mean]", mean.format(m=m), "", "[kernels]",
        f"number_of_kernels {len(kinds)}", f"composition {composition or '*'.join(names)}",
    ]
    for name, kind, (_, dims, theta) in zip(names, written, kinds, strict=True):
        lines += [
            "", f"[kernel.{name}]", f"type {kind}", f"number_of_dimensions {len(dims)}",
            "active_dimensions " + " ".join(map(str, dims)),
            f"{key} " + " ".join(number(t) for t in theta),
        ]
    lines += ["", "[training_data]", "units.x bohr bohr radians bohr radians radians bohr",
              "units.y Ha", "scaling.x none", "scaling.y none", "", "[training_data.x]"]
    lines += [" ".join(number(v) for v in row) for row in x.tolist()]
    lines += ["", "[training_data.y]", *(number(v) for v in y.tolist())]
    lines += ["", "[weights]", *(number(v) for v in w.tolist()), ""]
    return "\n".join(lines), x, m, w


RBF = (("rbf", 1), (1, 2, 3, 4, 5), (0.3, 0.2, 0.16, 0.25, 0.12))
PERIODIC4 = (("periodic", 4), (6,), (0.2,))
PERIODIC2 = (("periodic", 2), (6,), (0.2,))
ALL = (("rbf", 1), (1, 2, 3, 4, 5, 6), (0.3, 0.2, 0.16, 0.25, 0.12, 0.05))
WRAPPED = (("wrapped", 1), *ALL[1:])


@pytest.fixture
def read_text(tmp_path):
    def read(text):
        path = tmp_path / "test.model"
        path.write_text(text)
        return read_model(path)

    return read


@pytest.mark.parametrize("kinds, options, dialect", [
    ([ALL], {}, "rbf"),
    ([ALL], {"number": fortran, "key": "thetas", "composition": "(k1)"}, "rbf"),
    ([WRAPPED], {"written": ["rbf-cyclic"]}, "rbf-cyclic"),
    ([WRAPPED], {"written": ["rbf-cylic"]}, "rbf-cyclic"),
    ([WRAPPED], {"written": ["rbf"]}, "rbf, wrapped differences"),
    ([ALL], {"written": ["rbf-cyclic"]}, "rbf-cyclic, plain differences"),
    ([RBF, PERIODIC4], {"composition": "(k1*k2)"}, "rbf * periodic, 4 theta"),
    ([RBF, PERIODIC2], {"composition": "(k1 * k2)"}, "rbf * periodic, 2 theta"),
    ([RBF, PERIODIC2], {"header": "# metadata\n# program gpytorch\n# noise {noise}\n"},
     "rbf * periodic, 2 theta"),
    ([RBF, PERIODIC4], {"header": "# program gpytorch\n# noise {noise}\n", "scale_noise": True,
                        "noise": 1e-4},
     "rbf * periodic, 4 theta, noise of standardised targets"),
    ([RBF, PERIODIC4], {"header": ""}, "rbf * periodic, 4 theta, noise inferred"),
    ([RBF, PERIODIC4], {"mean": "type zero", "noise": 1e-9}, "rbf * periodic, 4 theta"),
])
def test_dialects_are_settled_by_the_training_targets(read_text, kinds, options, dialect):
    text, x, m, w = model_text(kinds, **options)
    model = read_text(text)
    assert model.dialect == dialect
    assert (model.system, model.atom, model.index, model.element) == ("AMMONIA", "N1", 0, "N")
    assert (model.property, model.alf, model.n_atoms) == ("iqa", (0, 1, 2), 4)
    assert model.mean == pytest.approx(m, rel=1e-15)
    assert model.noise == pytest.approx(options.get("noise", 1e-8), rel=1e-3)
    probe = x[:7] + 0.05
    expected = m + np.exp(-exponent(probe[:, None] - x[None], kinds)) @ w
    np.testing.assert_allclose(model.predict(probe), expected, rtol=0, atol=1e-10)


def test_metadata(read_text):
    text, *_ = model_text([ALL])
    model = read_text("# method = B3LYP\n# basis-set = 6-31+g(d,p)\n" + text)
    assert model.metadata == {
        "method": "B3LYP", "basis-set": "6-31+g(d,p)", "program": "ferebus", "nugget": "1e-08"
    }


@pytest.mark.parametrize("old, new, line, message", [
    ("name AMMONIA\n", "", 5, "no 'name'"),
    ("atom N1", "atom X1x", 7, "not an element"),
    ("atom N1", "atom N5", 7, "not one of the 4 atoms"),
    ("property iqa", "property energy", 8, "unknown property 'energy'"),
    ("ALF 1 2 3", "ALF 1 2 5", 9, "ALF index 5"),
    ("ALF 1 2 3", "ALF 1 2 0", 9, "ALF index 0"),
    ("ALF 1 2 3", "ALF 1 2", 9, "3 indices, not 2"),
    ("ALF 1 2 3", "ALF 1 2 2", 9, "must be different"),
    ("ALF 1 2 3", "ALF 2 1 3", 9, "begins with atom 2"),
    ("ALF 1 2 3", "ALF 1 -2 3", 9, "'-2' of 'ALF' is not a whole number"),
    ("atoms 4", "atoms 5", 13, "5 atoms have 9 features, not 6"),
    ("atoms 4", "atoms 1", 12, "at least two atoms"),
    ("atoms 4", "atoms four", 12, "'four'"),
    ("points 24", "points 0", 14, "no training points"),
    ("points 24", "points 25", 66, "24 rows instead of 25"),
    ("type constant", "type linear", 16, "linear mean is not supported"),
    ("type constant", "type quadratic", 16, "quadratic mean is not supported"),
    ("type constant", "type cubic", 17, "unknown mean 'cubic'"),
    ("value", "valve", 18, "keyword 'valve'"),
    ("composition k1*k2", "composition k1+k2", 22, "sums of kernels"),
    ("composition k1*k2", "composition k1*k3", 30, "[kernel.k2] is not supported or not used"),
    ("composition k1*k2", "composition k1*k1", 22, "stands twice"),
    ("composition k1*k2", "composition k1/k2", 22, "not a product"),
    ("composition k1*k2", "composition (k1*k2", 22, "not a product"),
    ("kernels 2", "kernels 3", 21, "is of 2 kernels"),
    ("type periodic", "type matern52", 31, "kernel 'matern52' is not supported"),
    ("dimensions 6", "dimensions 7", 33, "active dimension 7"),
    ("dimensions 6", "dimensions 5 6", 33, "number_of_dimensions is 1"),
    ("theta 0.2\n", "theta 0.2 0.3\n", 34, "2 values of theta for 1"),
    ("theta 0.2\n", "theta -0.2\n", 34, "theta must not be negative"),
    ("theta 0.2\n", "theta nan\n", 34, "'nan' of 'theta' is not a finite number"),
    ("theta 0.2\n", "theta 1e999\n", 34, "not a finite number"),
    ("theta 0.2\n", "theta 1e300\n", 34, "not plausible"),
    ("theta 0.2\n", "theta 0.2\ntheta 0.2\n", 35, "'theta' stands twice"),
    ("theta 0.2\n", "prefactor 2\n", 34, "keyword 'prefactor'"),
    ("theta 0.2\n", "", 30, "one 'theta'"),
    ("scaling.y none", "scaling.y standardised", 40, "scaling.y 'standardised' is not supported"),
    ("units.x bohr", "units.x angstrom", 37, "feature 1 must be in bohr"),
    ("units.y Ha", "units.y kJ/mol", 38, "iqa must be in Ha"),
    ("[training_data.y]", "[training_data.x]", 68, "stands twice, first in line 42"),
    ("[weights]", "[weights", 94, "not closed"),
    ("nugget 1e-08", "nugget -1e-08", 3, "must not be negative"),
    ("nugget 1e-08", "nugget tiny", 3, "'tiny' of 'nugget'"),
])
def test_faults_are_named_with_their_line(read_text, old, new, line, message):
    text, *_ = model_text([RBF, PERIODIC4])
    assert text.count(old) >= 1
    at = text.rindex(old) if old == "theta 0.2\n" else text.index(old)
    with pytest.raises(ModelError, match=re.escape(message)) as error:
        read_text(text[:at] + new + text[at + len(old):])
    assert f"test.model, line {line}:" in str(error.value)


@pytest.mark.parametrize("block, offset", [("[training_data.x]", 4), ("[training_data.y]", 9),
                                           ("[weights]", 24)])
@pytest.mark.parametrize("word", ["nan", "inf", "1_0", "0x1", "1.0.0", "two", "1e400", "1 2"])
def test_faults_in_numeric_blocks_are_named_with_their_line(read_text, block, offset, word):
    lines = model_text([ALL])[0].split("\n")
    at = lines.index(block) + offset
    lines[at] = " ".join([word, *lines[at].split()[1:]])
    with pytest.raises(ModelError, match=f"line {at + 1}: "):
        read_text("\n".join(lines))


@pytest.mark.parametrize("name", ["system", "dimensions", "mean", "kernels", "kernel.k1",
                                  "training_data", "training_data.x", "training_data.y", "weights"])
def test_missing_section(read_text, name):
    text, *_ = model_text([ALL])
    head, rest = text.split(f"[{name}]\n")
    rest = rest[rest.index("\n["):] if "\n[" in rest else ""
    with pytest.raises(ModelError, match=re.escape(f"[{name}]")):
        read_text(head + rest)


def test_every_truncation_is_found(read_text):
    lines = model_text([ALL])[0].split("\n")
    for n in range(len(lines) - 2):
        with pytest.raises(ModelError, match="line "):
            read_text("\n".join(lines[:n]))


def test_what_does_not_reproduce_its_targets_is_refused(read_text):
    text, *_ = model_text([ALL])
    with pytest.raises(ModelError, match=r"does not reproduce its own .* residual is [1-9]"):
        read_text(text.replace("theta 0.3", "theta 0.31"))


def test_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ModelError, match="nothing.model: cannot be read"):
        read_model(tmp_path / "nothing.model")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)
    (tmp_path / "binary.model").write_bytes(b"[system]\n\x93NUMPY")
    with pytest.raises(ModelError, match="line 2: not plain text"):
        read_model(tmp_path / "binary.model")


def test_uncorrelated_model_is_its_mean(read_text):
    """Theta so large that the writing program lost even k(f, f) of some points."""
    text, x, m, _ = model_text([ALL])
    _, y = training_set()
    head = re.sub(r"theta .*", "theta " + " ".join(["1e17"] * 6), text.split("[weights]")[0])
    w = (y - m) / (np.where(np.arange(N) % 3, 1.0, 0.0) + 1e-8)
    model = read_text(head + "[weights]\n" + "\n".join(map(repr, w.tolist())))
    assert model.dialect == "mean only (uncorrelated)"
    np.testing.assert_array_equal(model.predict(x), np.full(N, m))
    w[5] *= 1.01
    with pytest.raises(ModelError, match="does not reproduce"):
        read_text(head + "[weights]\n" + "\n".join(map(repr, w.tolist())))


@pytest.mark.parametrize("features", [np.zeros(6), np.zeros((2, 5)), np.full((1, 6), np.nan)])
def test_predict_refuses_what_are_not_its_features(read_text, features):
    with pytest.raises(ModelError, match="N1 iqa: features must be"):
        read_text(model_text([ALL])[0]).predict(features)


@pytest.mark.parametrize("column, value, message", [
    (0, 0.0, "feature 1 of training point 3 is 0, but a distance must be above 0"),
    (3, -1.9, "feature 4 of training point 3 is -1.9, but a distance"),
    (2, 3.2, "feature 3 of training point 3 is 3.2, but this angle must be between 0 and pi"),
    (4, -0.1, "feature 5 of training point 3 is -0.1, but this angle"),
])
def test_features_that_no_geometry_has(tmp_path, fit_process, column, value, message):
    x, y = training_set()
    x[2, column] = value
    gp = fit_process(x, y[None], Kernel.periodic_on_phi([0.1] * 6))
    model = AtomModel("AMMONIA", "N1", 0, "N", "iqa", (0, 1, 2), 4, gp, y)
    write_model(tmp_path / "a.model", model)
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path / "a.model")


@pytest.mark.parametrize("name, atom, shift, message", [
    ("iqa", "N1", 55.0, "iqa of N1 is 0.0.* on average, but must be between -107.7 and 0"),
    ("iqa", "H1", 0.0, "iqa of H1 is -54.9 on average, but must be between -2 and 0"),
    ("q00", "H1", 56.0, "q00 of H1 is 1.098 on average, but must be between -4 and 1"),
    ("q00", "H1", 50.0, "q00 of H1 is -4.902 on average"),
    ("iqa", "H1", 54.4, None), ("q00", "N1", 53.9, None), ("q10", "N1", 60.0, None),
])
def test_targets_that_the_property_does_not_have(tmp_path, fit_process, name, atom, shift, message):
    x, y = training_set()
    gp = fit_process(x, y[None] + shift, Kernel.periodic_on_phi([0.1] * 6))
    model = AtomModel("AMMONIA", atom, 0, atom[0], name, (0, 1, 2), 4, gp, y + shift)
    write_model(tmp_path / "a.model", model)
    if message is None:
        assert read_model(tmp_path / "a.model").property == name
        return
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path / "a.model")


@pytest.mark.parametrize("name, fine", [
    ("AMMONIA_iqa_N1", True), ("A_B_IQA_n1", True), ("marginal", True), ("iqa_N1", True),
    ("iqa", True), ("AMMONIA_N1_iqa", True), ("AMMONIA_q00_N1", False), ("A_iqa_N2", False),
    ("A_iqa_H1", False),
])
def test_the_name_of_the_file_is_that_of_its_content(tmp_path, name, fine):
    path = tmp_path / f"{name}.model"
    path.write_text(model_text([ALL])[0])
    if fine:
        assert read_model(path).atom == "N1"
        return
    with pytest.raises(ModelError, match="the name is of .*, the content says iqa of N1"):
        read_model(path)


MUTATIONS = st.sampled_from([
    "delete line", "repeat line", "swap lines", "truncate", "replace", "insert", "delete", "word"
])


@given(st.data())
@settings(deadline=None, max_examples=400,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_refused_or_mean_the_same(tmp_path, data):
    text, x, m, w = model_text([RBF, PERIODIC4])
    lines = text.split("\n")
    for _ in range(data.draw(st.integers(1, 2))):
        i = data.draw(st.integers(0, len(lines) - 1))
        j = data.draw(st.integers(0, len(lines) - 1))
        line = lines[i]
        at = data.draw(st.integers(0, len(line)))
        kind = data.draw(MUTATIONS)
        if kind == "delete line" and len(lines) > 1:
            del lines[i]
        elif kind == "repeat line":
            lines.insert(j, line)
        elif kind == "swap lines":
            lines[i], lines[j] = lines[j], lines[i]
        elif kind == "truncate":
            lines = [*lines[:i], line[:at]]
        elif kind == "word":
            words = line.split() or [""]
            words[at % len(words)] = data.draw(
                st.sampled_from(["0", "-1", "1e30", "nan", "[x]", "#", "1e308", "periodic", "7"])
            )
            lines[i] = " ".join(words)
        else:
            new = "" if kind == "delete" else data.draw(st.characters(max_codepoint=255))
            lines[i] = line[:at] + new + line[at + (kind != "insert"):]
    path = tmp_path / "damaged.model"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    try:
        model = read_model(path)
    except ModelError as error:
        assert str(path) in str(error)
        return
    expected = m + np.exp(-exponent(x[:, None] - x[None], [RBF, PERIODIC4])) @ w
    # what changes the meaning by less than 1e-5 of the targets' spread goes unnoticed
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-4 * np.std(expected))


def kernels():
    def theta(active):
        return st.lists(st.floats(1e-3, 0.8), min_size=6, max_size=6).map(
            lambda t: np.where(active, t, 0.0)
        )

    phi = np.arange(6) == 5
    on_phi = st.sampled_from(["rbf", "cyclic", "periodic", "none"])

    def build(t, p, which):
        parts = {name: np.where(phi & (which == name), p, 0.0)
                 for name in ("rbf", "cyclic", "periodic")}
        return Kernel(t + parts["rbf"], parts["cyclic"], parts["periodic"])

    return st.builds(build, theta(~phi), st.floats(1e-3, 0.8), on_phi)


@given(kernels(), st.integers(0, 100), st.sampled_from(["iqa", "q11c"]))
@settings(deadline=None, max_examples=40,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_write_and_read_is_the_identity(tmp_path, fit_process, kernel, seed, name):
    x, y = training_set(seed)
    gp = fit_process(x, y[None], kernel, noise=1e-6)
    model = AtomModel("AMMONIA", "N1", 0, "N", name, (0, 1, 2), 4, gp, y, metadata={"by": "me"})
    path = tmp_path / "written.model"
    path.unlink(missing_ok=True)
    write_model(path, model)
    back = read_model(path)
    for a, b in [(back.inputs, gp.inputs), (back.weights, gp.weights[0]),
                 (back.kernel.rbf, kernel.rbf), (back.kernel.cyclic, kernel.cyclic),
                 (back.kernel.periodic, kernel.periodic)]:
        np.testing.assert_array_equal(a, b)
    assert (back.mean, back.noise, back.alf, back.property) == (gp.mean[0], 1e-6, (0, 1, 2), name)
    assert back.metadata["by"] == "me"
    np.testing.assert_allclose(back.targets, y, rtol=0, atol=1e-9)


def test_diatomic_model(tmp_path, fit_process):
    x = np.linspace(1.2, 1.6, 9)[:, None]
    gp = fit_process(x, (x - 1.4).T ** 2 - 0.5, Kernel([0.5], [0.0], [0.0]))
    model = AtomModel("H2", "H2", 1, "H", "iqa", (1, 0, -1), 2, gp, gp.targets()[0])
    write_model(tmp_path / "h.model", model)
    text = (tmp_path / "h.model").read_text()
    assert "ALF 2 1 None\n" in text
    for row in ("2 1 None", "2 1", "2 1 0"):
        (tmp_path / "other.model").write_text(text.replace("2 1 None", row))
        assert read_model(tmp_path / "other.model").alf == (1, 0, -1)


def test_written_file_is_laid_out_as_ferebus_does(tmp_path, read_text):
    model = read_text(model_text([RBF, PERIODIC2])[0])
    write_model(tmp_path / "new.model", model)
    text = (tmp_path / "new.model").read_text()
    order = ["# [metadata]", "[system]", "[dimensions]", "[mean]", "[kernels]", "[kernel.k1]",
             "[kernel.k2]", "[training_data]", "[training_data.x]", "[training_data.y]",
             "[weights]"]
    places = [text.index(f"{heading}\n") for heading in order]
    assert places == sorted(places)
    assert "composition (k1*k2)\n" in text
    assert "type periodic\nnumber_of_dimensions 1\nactive_dimensions 6\ntheta 0.1\n" in text


def test_existing_files_are_not_overwritten(tmp_path, read_text):
    model = read_text(model_text([ALL])[0])
    before = (tmp_path / "test.model").read_bytes()
    with pytest.raises(ModelError, match="exists"):
        write_model(tmp_path / "test.model", model)
    assert (tmp_path / "test.model").read_bytes() == before
    with pytest.raises(ModelError, match="not a name"):
        write_model(tmp_path / "new.model", dataclasses.replace(model, system="two words"))
    assert isinstance(model.gp, GaussianProcess)


@pytest.mark.parametrize("molecule, rmse", PUBLISHED.items())
def test_published_models_reach_their_published_error(reference, molecule, rmse):
    folder = reference / "ferebus" / molecule
    model = read_model(folder / "marginal.model")
    (validation,) = Path(folder).glob("*_VALIDATION_SET.csv")
    header, *rows = validation.read_text().splitlines()
    assert header.endswith(",iqa")
    table = np.loadtxt(rows, delimiter=",")
    error = HARTREE_KJ * (model.predict(table[:, 1:-1]) - table[:, -1])
    assert np.sqrt(np.mean(error**2)) == pytest.approx(rmse, abs=6e-4)


def test_published_models_of_gpytorch(reference):
    paths = [*reference.glob("water343/model_krig/*.model"), *reference.glob("ammonia/*.model")]
    assert len(paths) == 34
    for path in paths:
        model = read_model(path)
        assert path.name == f"{model.system}_{model.property}_{model.atom}.model"
        if model.n_atoms == 4:
            assert model.dialect.startswith("rbf * periodic, 2 theta")
        # the targets are moments of 1e-5 where they vanish by symmetry
        off = np.abs(model.predict(model.inputs) - model.targets).max()
        assert off < 5e-4
