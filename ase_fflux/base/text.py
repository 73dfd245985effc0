"""Text for screens and tables: names that can be printed anywhere, rows in aligned columns."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """Text whose bytes that are not UTF-8 (of a file's name) are written out, as in ``b\\xfcd``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, such as one of a JSON file
        return text.encode("utf-8", "backslashreplace").decode()


def counted(number: int, what: str) -> str:
    """A number of things that take an s in the plural, such as ``1 label``, ``2 labels``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def size_of_file(size: int) -> str:
    """Bytes as ``34 kB`` or ``1.2 MB``."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def shortened(text: str) -> str:
    """At most 40 characters of a line, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in two or three digits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells, all rows as long as the first.
    right : sequence of int
        Columns that stand flush right; a negative number counts from the last. Others are flush
        left.

    Returns
    -------
    list of str
        One line for each row, columns two spaces apart, without spaces at the end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    to_right = {range(len(widths))[column] for column in right} if widths else set()
    return [
        "  ".join(
            cell.rjust(width) if number in to_right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def quantities(rows: Sequence[tuple[str, float, str]], indent: str = "  ") -> list[str]:
    """Lines of rows of name, value (four digits) and unit, aligned and indented."""
    cells = [(name, f"{value:.4g}", unit) for name, value, unit in rows]
    return [indent + line for line in aligned(cells, [1])]


def toml_fault(error: Exception, text: str) -> str:
    """What is wrong with a TOML file, with the line also where its end comes too early."""
    last = len(text.splitlines())
    return str(error).replace("(at end of document)", f"(at its end, line {last}: is it cut off?)")
