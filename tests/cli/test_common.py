import json
import logging
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ase_fflux.base.outputs import OutputFiles
from ase_fflux.cli import main as cli
from ase_fflux.cli import options
from ase_fflux.cli.progress import progress


@pytest.fixture
def verb(monkeypatch, tmp_path):
    """Makes ``fflux opt`` a verb that has all kinds of options; gives what it was called with."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def add_parser(subparsers):
        parser = subparsers.add_parser("opt", allow_abbrev=False)
        parser.add_argument("geometry")
        parser.add_argument("more", nargs="*")
        parser.add_argument("--model", action="append", required=True)
        parser.add_argument("--no-charges", dest="charges", action="store_false")
        parser.add_argument("--fast", action="store_true")
        parser.add_argument("-o", "--output", default="out")
        parser.add_argument("--steps", type=options.natural, default=10)
        parser.add_argument("--pair", type=options.pair_potential, action="append")
        either = parser.add_mutually_exclusive_group(required=True)
        either.add_argument("--range", nargs=2, type=float)
        either.add_argument("--width", type=float)
        options.add_json(parser)
        parser.set_defaults(seed=7)

    def run(args):
        seen.append(args)
        print("a line")
        files = OutputFiles(args.output, [".xyz"])
        files.set_aside()
        with progress("working", 10) as advance:
            advance(1)
        logging.getLogger("ase_fflux.somewhere").info("inside")
        args.summary = {"steps": args.steps}
        return 1

    monkeypatch.setattr(cli, "_module", lambda n: SimpleNamespace(add_parser=add_parser, run=run))
    return seen


COMMAND = ["opt", "a.xyz", "--model", "w", "--model", "e", "--range", "-1.5", "2", "--no-charges",
           "--pair", "O-O=lj,1,2"]


def written(name="out.toml"):
    return tomllib.loads(Path(name).read_text("utf-8"))


def test_what_was_run_is_written_beside_the_output(verb):
    assert cli.main(["opt", "a.xyz", "odd \"name\" \\ é", *COMMAND[2:]]) == 1
    assert written() == {
        "geometry": "a.xyz", "more": ['odd "name" \\ é'], "model": ["w", "e"], "range": [-1.5, 2],
        "no-charges": True, "output": "out", "steps": 10, "pair": ["O-O=lj,1,2"],
    }
    assert "# as it was typed: fflux opt a.xyz" in Path("out.toml").read_text()


def test_such_a_file_repeats_the_run(verb):
    cli.main([*COMMAND, "--steps", "3"])
    assert cli.main(["opt", "--config", "out.toml"]) == 1
    first, second = (vars(args).copy() for args in verb)
    for args in (first, second):
        for name in ("command", "config"):
            args.pop(name)
    assert first == second and second["pair"] == [("O-O", {"lj": [1.0, 2.0]})]
    assert Path("out.toml.~1~").exists() and written() == written("out.toml.~1~")


def test_the_command_line_comes_first(verb):
    cli.main(COMMAND)
    cli.main(["opt", "b.xyz", "--config=out.toml", "--model", "x", "--steps", "2", "--width", "3",
              "-o", "other", "--fast"])
    args = verb[1]
    assert (args.geometry, args.more, args.model, args.steps) == ("b.xyz", [], ["x"], 2)
    assert (args.range, args.width, args.fast, args.charges) == (None, 3.0, True, False)
    assert written("other.toml")["width"] == 3 and "range" not in written("other.toml")


@pytest.mark.parametrize(
    "text, said",
    [
        ("stps = 3", "no option 'stps'; did you mean 'steps'?"),
        ("json = true", "no option 'json'"),
        ("fast = 1", "fast is true or false, not 1"),
        ("steps = true", "steps is a number or a text, or a list of them, not true"),
        ("steps = [1, 2]", "steps is one value, not [1, 2]"),
        ("steps = 1979-05-27", "steps is a number or a text"),
        ("[opt]\nsteps = 1", "no option 'opt'"),
        ("steps = ", "is not TOML"),
    ],
)
def test_faults_of_a_file_are_one_line(verb, capsys, text, said):
    Path("c.toml").write_text(text)
    assert cli.main(["opt", "--config", "c.toml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: c.toml") and said in error and error.count("\n") == 1
    assert cli.main(["opt", "--config", "none.toml"]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


def test_values_of_a_file_are_checked_as_options_are(verb, capsys):
    Path("c.toml").write_text('steps = -3\ngeometry = "a"\nmodel = "w"\nwidth = 1')
    with pytest.raises(SystemExit) as done:
        cli.main(["opt", "--config", "c.toml"])
    assert done.value.code == 2
    assert "--steps: invalid positive whole number value: '-3'" in capsys.readouterr().err


def test_quiet(verb, capsys, monkeypatch):
    monkeypatch.setattr("ase_fflux.cli.progress.WORTH_A_LINE", 0.0)
    assert cli.main([*COMMAND, "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out == said.err == ""
    cli.main(COMMAND)
    said = capsys.readouterr()
    assert said.out == "a line\n" and "working" in said.err and "inside" not in said.err


def test_verbose_tells_what_is_logged(verb, capsys):
    cli.main([*COMMAND, "--verbose"])
    cli.main(COMMAND)
    assert capsys.readouterr().err.count(" inside\n") == 1


def test_json_stands_alone(verb, capsys):
    assert cli.main([*COMMAND, "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"steps": 10} and said.err.startswith("a line\n")
    cli.main([*COMMAND, "--json", "--quiet"])
    said = capsys.readouterr()
    assert json.loads(said.out) == {"steps": 10} and said.err == ""


def test_output_of_scripts_has_no_such_file(tmp_path):
    OutputFiles(tmp_path / "x", [".xyz"]).set_aside()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    "words, expected",
    [
        (["sc"], "scan"),
        (["scan", "--tor"], "--torsion"),
        (["opt", "--optimizer", "l"], "lbfgs"),
        (["vib", "--model", "eth"], "ethanol"),
        (["info", "wa"], "water"),
        (["opt", "some"], "somefile.xyz"),
        (["md", "--qui"], "--quiet"),
    ],
)
def test_completion(tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    Path("somefile.xyz").touch()
    assert cli.main(["complete", "bash"]) == 0
    typed = " ".join(["fflux", *words])
    code = (
        f"{capsys.readouterr().out}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _fflux; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    found = done.stdout.split()
    assert expected in found and all(word.startswith(words[-1]) for word in found), done.stderr
