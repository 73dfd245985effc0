"""Why atoms fit no model, in words."""

from collections import Counter

from ase.data import chemical_symbols

from ase_fflux.topology.graphs import Graph, atom_names
from ase_fflux.topology.pattern import Pattern


def misfit(patterns, needs, kind, fragments, left) -> str:
    """Why fragments `left` over from matching fit no model, told by one that is part of none."""
    available = "models: " + (", ".join(f"{p.name} ({p.formula})" for p in patterns) or "none")
    strangers = [f for f in left if not any(kind[f] in need for need in needs)]
    first = (strangers or left)[0]
    atoms, graph = fragments.graph([first])
    what = f"{graph.formula} (atoms {atom_names(atoms, fragments.numbers)})"
    if strangers:
        others = f" (nor {len(strangers) - 1} more fragments)" if len(strangers) > 1 else ""
        reason = _closest_reason(patterns, graph, fragments.graph(left)[1])
        return f"no model fits {what}{others}{reason}; {available}"
    pattern, need = next((p, n) for p, n in zip(patterns, needs, strict=True) if kind[first] in n)
    return (
        f"{what} is left over: model {pattern.name!r} takes {need.total()} fragments together, "
        f"{need[kind[first]]} of this kind, and there are {(kind == kind[first]).sum()} of them; "
        f"remove it, or add a model of it alone; {available}"
    )


def _closest_reason(patterns, graph, together) -> str:
    composition = Counter(graph.numbers.tolist())
    for pattern in patterns:
        n = _multiple(composition, Counter(pattern.numbers.tolist()))
        if n == 1:
            difference = _bond_difference(graph, pattern)
            return f": it has the formula of {pattern.name!r}, but {difference}"
        if n:
            return (
                f": it is {n} times {pattern.formula} of {pattern.name!r} joined together; "
                "molecules may be too close to each other"
            )
    for pattern in patterns:
        n = _multiple(Counter(together.numbers.tolist()), Counter(pattern.numbers.tolist()))
        if n and len(pattern.numbers) > 2 and not len(together.bonds):
            return (
                ": no two of them are near enough for a bond; are the positions in Angstrom, and "
                "not in bohr?"
            )
        if n:
            return (
                f": all fragments left are together {n} times {pattern.formula} of "
                f"{pattern.name!r}; a bond may be stretched too far to be seen"
            )
    return ""


def _multiple(composition: Counter, unit: Counter) -> int:
    n = composition.total() // unit.total()
    return n if n and composition == Counter({z: n * m for z, m in unit.items()}) else 0


def _bond_difference(graph: Graph, pattern: Pattern) -> str:
    def kinds(g):
        return Counter(
            "-".join(sorted(chemical_symbols[z] for z in pair))
            for pair in g.numbers[g.bonds].tolist()
        )

    here, there = kinds(graph), kinds(pattern)
    return (
        ", ".join(
            f"{here[b]} {b} bonds instead of {there[b]}"
            for b in sorted(here | there)
            if here[b] != there[b]
        )
        or "its atoms are connected in another way by as many bonds of each kind"
    )
