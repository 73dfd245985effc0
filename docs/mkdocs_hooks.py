"""What MkDocs needs to be told: text outside of docs/ belongs to the site, equations are MathML.

Links are those of the repository, so that pages can be read there too. Here files outside of docs/
stand beside those in it, under their own paths.
"""

import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

_ROOT = Path(__file__).resolve().parents[1]
_OUTSIDE = (
    "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "models/README.md",
    "examples/**/*.md", "examples/**/*.png", "examples/**/*.py", "examples/*.xyz",
)
_LINK = re.compile(r"(\]\()((?!\w+:|#)[^)\s]+)(\))")
_EQUATION = re.compile(
    r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', re.DOTALL
)


def on_files(files, config):
    """Add the files outside of docs/."""
    for pattern in _OUTSIDE:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            files.append(File(name, str(_ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links within the repository to links within the site."""
    outside = not Path(page.file.abs_src_path).is_relative_to(config.docs_dir)
    here = (_ROOT if outside else Path(config.docs_dir)) / page.file.src_uri

    def turned(match):
        path, mark, anchor = match[2].partition("#")
        target = (here.parent / path).resolve()
        if not path or not target.exists():
            return match[0]  # MkDocs warns of it
        if target.is_dir():
            target /= "README.md"
        for folder in (Path(config.docs_dir), _ROOT):
            if target.is_relative_to(folder):
                name = target.relative_to(folder).as_posix()
                break
        up = "../" * page.file.src_uri.count("/")
        return f"{match[1]}{up}{name}{mark}{anchor}{match[3]}"

    return _LINK.sub(turned, markdown)


def on_page_content(html, page, config, files):
    """Equations as MathML, which browsers draw without a script; a wrong one is an error here."""
    return _EQUATION.sub(
        lambda m: convert(unescape(m[3]), display="block" if m[2] == "[" else "inline"), html
    )
