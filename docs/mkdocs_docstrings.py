"""Equations of docstrings, which are reStructuredText as numpydoc has it, as those of the pages."""

import re

import griffe

_MATH = re.compile(r"^([ \t]*)\.\. math::[ \t]*(.*(?:\n\1[ \t]+\S.*)*)", re.MULTILINE)


class Equations(griffe.Extension):
    """Turn ``.. math::`` into what Markdown takes for an equation."""

    def on_object(self, *, obj, loader, **kwargs):
        if obj.docstring:
            obj.docstring.value = _MATH.sub(
                lambda m: f"{m[1]}$$\n{m[1]}{' '.join(m[2].split())}\n{m[1]}$$",
                obj.docstring.value,
            )
