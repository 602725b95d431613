"""Names of coefficients come in, as several packages write them; what they share goes out."""

from collections.abc import Iterable

CONSTANT = "Constant"


def canonical(name: str) -> str:
    """One name for what packages call differently."""
    return CONSTANT if name in ("Intercept", "const", "(Intercept)") else name.replace("[T.", "[")


def alike(names: Iterable[str]) -> dict[str, str]:
    """Return what each coefficient of a fit is matched by beside those of other fits.

    An interaction's columns are in one order, and a bool's coefficient goes by the bool alone, unless the coding has
    one for False too: ``x:u[T.True]``, ``u[True]:x`` and ``u:x`` are all matched by "u:x".
    """
    parts = {name: _parts(canonical(name)) for name in names}
    every = {part for own in parts.values() for part in own}
    found: dict[str, str] = {}
    for name, own in parts.items():
        stems = [part.removesuffix("[True]") for part in own]
        bare = [part if f"{stem}[False]" in every else stem for part, stem in zip(own, stems, strict=True)]
        key = ":".join(sorted(bare))
        found[name] = name if key in found.values() else key
    return found


def _parts(name: str) -> list[str]:
    """The columns of an interaction: what stands between colons that are in no bracket."""
    depth, parts = 0, [""]
    for character in name:
        depth += (character in "([") - (character in ")]")
        if character == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
