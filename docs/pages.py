"""Run the code that stands in pages of the documentation, and compare what it prints.

    python docs/pages.py PAGE.md ...            exit 1 where something fails or is printed otherwise
    python docs/pages.py --update PAGE.md ...   write what is printed into the pages

On a page that begins with ``<!-- executed`` all blocks ``sh`` and ``python`` are run, in their
order and in one empty folder, where nothing of the project is; the Python of a page is one
process. A block ``text`` that follows is what a block prints on its standard output: numbers with
decimals may differ by 2 % or two units of their last digit, after ``<!-- roughly -->`` by a factor
of five; ``...`` stands for anything in a line and, alone, for any lines. A page ``<!-- executed
with published data -->`` has the variable FFLUX_REFERENCE, and needs what is there. Pictures that a
page shows from ``docs/pictures`` must be made by it, under the same name.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- executed"
WITH_DATA = "<!-- executed with published data -->"
ROUGHLY = "<!-- roughly -->"
DATA = Path(os.environ.get("FFLUX_REFERENCE", ROOT.parent / "shared" / "reference"))
_BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\]]*\]\((?:\.\./)?pictures/([^)]+)\)")
_NUMBER = re.compile(r"[-+]?\d+(?:\.(\d+))?(?:[eE]([-+]?\d+))?")
_TOKEN = re.compile(r"\.\.\.|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[^\s\d.+-]+|\S")
_END = "<end of block>"
_PYTHON = f"""
import json, sys, traceback
scope = {{"__name__": "__main__"}}
for line in sys.stdin:
    status = 0
    try:
        exec(compile(json.loads(line), "page", "exec"), scope)
    except BaseException:
        status = 1
        traceback.print_exc()
    sys.stderr.flush()
    print(f"\\n{_END} {{status}}", flush=True)
"""


class PageError(Exception):
    """Code on a page fails or prints something else than the page says."""


def executed_pages():
    """Pages of the documentation that are marked as executed, in order."""
    return [p for p in sorted(ROOT.glob("docs/**/*.md")) if p.read_text().startswith(MARK)]


def run_page(page, folder, update=False):
    """Run what stands on a page in a folder.

    Raises
    ------
    PageError
        With the block, and what it prints.
    """
    text = page.read_text()
    blocks = list(_BLOCK.finditer(text))
    pieces, end = [], 0
    with _Runner(folder) as runner:
        for block, after in zip(blocks, [*blocks[1:], None], strict=False):
            if block[1] == "text":
                continue
            status, printed, errors = runner.run(block[1], block[2])
            where = f"{page.name}, line {text[: block.start()].count(chr(10)) + 1}"
            if status:
                raise PageError(f"{where}: exit status {status}\n{printed}\n{errors}")
            between = text[block.end(): after.start()].strip() if after else ""
            if not after or after[1] != "text" or between not in ("", ROUGHLY):
                continue
            unknown = after[2].strip() == "..." and update
            if same(after[2], printed, 4.0 if between else 0.02) and not unknown:
                continue
            if not update:
                raise PageError(f"{where}: the page says\n{after[2]}\nprinted is\n{printed}")
            pieces += [text[end: after.start(2)], printed.strip("\n") + "\n"]
            end = after.end(2)
    for name in _PICTURE.findall(text):
        if not (folder / name).is_file():
            raise PageError(f"{page.name}: its code does not make {name}")
        if update:
            _keep_small(folder / name, ROOT / "docs" / "pictures" / name)
    if pieces:
        page.write_text("".join(pieces) + text[end:])


def _keep_small(picture, kept):
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    image.thumbnail((800, 800))
    image.quantize(48).save(kept, optimize=True)


class _Runner:
    """A shell and a Python process in one folder."""

    def __init__(self, folder):
        self.folder, self.python = folder, None
        self.environment = dict(
            os.environ, MPLBACKEND="Agg", OMP_NUM_THREADS="1", FFLUX_REFERENCE=str(DATA)
        )
        self.environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), self.environment["PATH"]]
        )
        self.errors = tempfile.TemporaryFile("w+")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.python is not None:
            self.python.stdin.close()
            self.python.wait(timeout=60)
            self.python.stdout.close()
        self.errors.close()

    def run(self, language, code):
        """Exit status, output and errors of one block."""
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
            )
            return done.returncode, done.stdout, done.stderr
        if self.python is None:
            self.python = subprocess.Popen(
                [sys.executable, "-c", _PYTHON], cwd=self.folder, env=self.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            )
        self.python.stdin.write(json.dumps(code) + "\n")
        self.python.stdin.flush()
        printed = []
        for line in self.python.stdout:
            if line.startswith(_END):
                return int(line.split()[-1]), "".join(printed).removesuffix("\n"), self._said()
            printed.append(line)
        return self.python.wait(), "".join(printed), self._said()

    def _said(self):
        self.errors.seek(0)
        return self.errors.read()


def same(expected, printed, tolerance=0.02):
    """Whether a page says what is printed, but for ``...`` and the last digits of numbers."""
    def lines_alike(a, b):
        return _matches(_tokens(a), _tokens(b), lambda a, b: _near(a, b, tolerance))

    return _matches(*(text.strip("\n").splitlines() for text in (expected, printed)), lines_alike)


def _matches(expected, printed, alike):
    """Whether two sequences are alike one by one, where ``...`` stands for any number of items."""
    if not expected:
        return not printed
    first, rest = expected[0], expected[1:]
    if first.strip() == "...":
        return any(_matches(rest, printed[i:], alike) for i in range(len(printed) + 1))
    return bool(printed) and alike(first, printed[0]) and _matches(rest, printed[1:], alike)


def _tokens(line):
    return _TOKEN.findall(line)


def _near(expected, printed, tolerance):
    wanted, found = _NUMBER.fullmatch(expected), _NUMBER.fullmatch(printed)
    if not wanted or not found or wanted[1] is None and wanted[2] is None:
        return expected == printed  # words, and counts
    unit = 10.0 ** (int(wanted[2] or 0) - len(wanted[1] or ""))
    a, b = float(expected), float(printed)
    return abs(a - b) <= max(2.001 * unit, tolerance * min(abs(a), abs(b)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="default: all")
    parser.add_argument("--update", action="store_true", help="write what is printed")
    options = parser.parse_args()
    failed = False
    for path in [p.resolve() for p in options.pages] or executed_pages():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                run_page(path, Path(scratch), options.update)
            except PageError as error:
                print(error)
                failed = True
    sys.exit(failed)
