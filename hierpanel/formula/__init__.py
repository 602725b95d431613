"""Formula strings become `Formula` records; column expressions become columns that remember how they were coded."""

from hierpanel.formula.terms import Block, Formula, Group, Term, parse

__all__ = ["Block", "Formula", "Group", "Term", "parse"]
