"""Text comes in; LaTeX that shows the same outside of mathematics goes out."""

import re

from hierpanel.results.equation import GREEK

_ESCAPED = {letter: f"${command}$" for letter, command in GREEK.items()} | {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "^": r"\^{}", "~": r"$\sim$", "<": "$<$", ">": "$>$", "|": "$|$", "²": "$^2$", "∞": r"$\infty$", "×": r"$\times$",
}  # fmt: skip


def escaped(text: str) -> str:
    """Return a text in which no character is a command."""
    plain = "".join(_ESCAPED.get(character, character) for character in text)
    return re.sub("(\\w)\N{COMBINING CIRCUMFLEX ACCENT}", r"$\\hat{\1}$", plain)


def row(label: str, *cells: str) -> str:
    r"""Return a line of a tabular from what is LaTeX already; a label such as ``[x]`` is no argument of the ``\\``."""
    guard = "{}" if label.startswith(("[", "*")) else ""
    return guard + " & ".join([label, *cells]) + r" \\"
