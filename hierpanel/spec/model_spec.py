"""Formula, design, family and the user's priors come in; a `ModelSpec` goes out, in which nothing is left open.

Priors refer to centred columns (the mean of each column, where there is an intercept to take up the shift), reports to
the original scale; `center` and `Group.center` hold the means, and are 0 where nothing is centred.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpanel.data.design import BlockDesign, Design, GroupDesign
from hierpanel.data.frame import Frame
from hierpanel.errors import DataError, FamilyError, PriorError, did_you_mean
from hierpanel.formula import Formula
from hierpanel.spec.families import Family
from hierpanel.spec.priors import Prior, as_prior, is_number

# The sd of fe(): so wide, in sds of the response (or on a link's scale), that the unit effects are not shrunk.
FIXED_LOCATION, FIXED_LINK = 1000.0, 10.0


@dataclass(frozen=True)
class GroupSpec:
    """What is assumed of one factor's effects.

    name : the factor; coefs : (q,) names of its columns; blocks : which columns vary together.
    sd : (q,) prior of each sd, or the number at which it is fixed.
    eta : the LKJ parameter of its correlations.
    center : (q,) column means that the priors refer to (0 where columns are left alone).
    levels : number of levels.
    """

    name: str
    coefs: tuple[str, ...]
    blocks: tuple[BlockDesign, ...]
    sd: tuple[Prior | float, ...]
    eta: float
    center: np.ndarray
    levels: int

    @property
    def is_centered(self) -> bool:
        """Whether the prior's sds and correlations differ from those of the original scale."""
        return bool(np.any(self.center != 0))

    @property
    def is_correlated(self) -> bool:
        """Whether any two columns vary together."""
        return any(block.correlated for block in self.blocks)

    @property
    def is_fixed(self) -> bool:
        """Whether this factor holds an `fe()` block."""
        return any(block.fixed for block in self.blocks)


@dataclass(frozen=True)
class PanelSpec:
    """The panel of the rows that are used: its columns, the distance between periods in words, and its size."""

    unit: str
    time: str
    frequency: str
    units: int
    periods: int
    balanced: bool

    def __str__(self) -> str:
        balanced = "balanced" if self.balanced else "unbalanced"
        return f"{self.units:,} {self.unit} × {self.periods:,} {self.time} ({self.frequency}), {balanced}"


@dataclass(frozen=True)
class ModelSpec:
    """A model with every choice made.

    formula, family : what was asked for.
    coefs : (p,) names of X's columns; beta : (p,) their priors; center : (p,) column means the priors refer to.
    groups : the grouping factors.
    parameters : the family's further parameters and their priors.
    scale : s, the sd of the response that default priors scale with (1 on a link scale).
    n, n_total, dropped : rows kept, rows given, and (column, rows) dropped where it was missing.
    weighted : whether rows have precision weights.
    joined : rows that became part of another, where each unit is one row (a `between()` response).
    panel : its columns and size, or None.
    notes : sentences that the reader of a summary must see.
    """

    formula: Formula
    family: Family
    coefs: tuple[str, ...]
    beta: tuple[Prior, ...]
    center: np.ndarray
    groups: tuple[GroupSpec, ...]
    parameters: Mapping[str, Prior]
    scale: float
    n: int
    n_total: int
    dropped: tuple[tuple[str, int], ...]
    weighted: bool
    notes: tuple[str, ...]
    joined: int = 0
    panel: PanelSpec | None = None

    @property
    def has_intercept(self) -> bool:
        """Whether the coefficients start with the intercept."""
        return self.coefs[:1] == ("Intercept",)

    @property
    def is_centered(self) -> bool:
        """Whether the prior of the intercept refers to centred columns."""
        return bool(np.any(self.center != 0))

    @property
    def moves_beta(self) -> bool:
        """Whether the reported coefficients differ from those that priors refer to (by centring or by fe())."""
        return self.is_centered or (self.has_intercept and any(group.is_fixed for group in self.groups))

    @property
    def rows_used(self) -> str:
        """How many rows were used, and why the others were not, in words."""
        dropped = self.n_total - self.n - self.joined
        used = f"{self.n:,} used" if not self.joined else f"{self.n:,} unit means of {self.n + self.joined:,}"
        why = ", ".join(f"{name} in {count:,}" for name, count in self.dropped)
        return f"{used}, {dropped:,} dropped" + (f" (missing: {why})" if why else "")

    def priors(self) -> dict[str, Prior | float]:
        """Every prior by its key (an `sd_` that is fixed is a number)."""
        found: dict[str, Prior | float] = {f"beta[{c}]": p for c, p in zip(self.coefs, self.beta, strict=True)}
        for group in self.groups:
            found |= {f"sd_{group.name}[{c}]": sd for c, sd in zip(group.coefs, group.sd, strict=True)}
            if group.is_correlated:
                found[f"cor_{group.name}"] = Prior("LKJ", eta=group.eta)
        return found | dict(self.parameters)

    def __str__(self) -> str:
        lines = [f"{self.formula}", f"{self.family}, {self.n} rows"]
        return "\n".join(lines + [f"  {key} ~ {prior}" for key, prior in self.priors().items()])


def build(
    formula: Formula,
    frame: Frame,
    design: Design,
    family: Family,
    priors: Mapping[str, Any] | None = None,
    center: bool = True,
    *,
    panel: PanelSpec | None = None,
    notes: tuple[str, ...] = (),
) -> ModelSpec:
    """Make every choice that a model needs.

    Parameters
    ----------
    formula, frame, design, family
        What was asked for, and the numbers it gave.
    priors : mapping
        Key → `Prior` (or a number for an sd). Keys are ``"beta"``, ``"beta[x]"``, ``"sd_g"``, ``"sd_g[x]"``,
        ``"cor_g"`` and the family's parameters; the more specific wins.
    center : bool
        Whether priors refer to centred columns.
    panel, notes
        What is said of the panel, and what else the reader of a summary must see.

    Raises
    ------
    PriorError, FamilyError, DataError
    """
    _check_family(design, family)
    scale = _scale(design, family)
    coefficient_center = _means(design.X, design.has_intercept and center)
    group_center = [_group_center(group, center) for group in design.groups]
    chosen = _defaults(design, family, scale)
    chosen = _apply(chosen, priors or {}, design)
    groups = tuple(
        GroupSpec(
            name=group.name,
            coefs=group.coefs,
            blocks=group.blocks,
            sd=tuple(chosen[f"sd_{group.name}[{coef}]"] for coef in group.coefs),
            eta=chosen[f"cor_{group.name}"].values["eta"] if _correlated(group) else 1.0,
            center=means,
            levels=len(group.levels),
        )
        for group, means in zip(design.groups, group_center, strict=True)
    )
    return ModelSpec(
        formula=formula,
        family=family,
        coefs=design.coefs,
        beta=tuple(chosen[f"beta[{coef}]"] for coef in design.coefs),
        center=coefficient_center,
        groups=groups,
        parameters={name: chosen[name] for name in family.parameters},
        scale=scale,
        n=design.n,
        n_total=frame.n_total,
        dropped=frame.dropped,
        weighted=design.weights is not None,
        notes=(*notes, *_notes(design, family)),
        joined=frame.joined,
        panel=panel,
    )


def _check_family(design: Design, family: Family) -> None:
    problem = family.problem(design.y, design.trials)
    if problem:
        raise FamilyError(f"the response {design.response} does not suit family={family.name!r}: {problem}")
    if design.weights is not None and not family.weighted:
        raise FamilyError(
            f"weights are precision weights (sd sigma/√w), and family={family.name!r} has no sigma; they work with "
            "gaussian and student_t. Counts out of trials are prop(successes, trials); sampling weights are not offered"
        )


def _scale(design: Design, family: Family) -> float:
    """s: the sd of the response (about 0 without an intercept), or 1 on a link scale."""
    if not family.location:
        return 1.0
    y = design.y - design.offset
    s = _spread(y[:, None], design.has_intercept)[0]
    if not s > 0:
        raise DataError(f"the response {design.response} less its offset is constant: nothing is left to explain")
    return float(s)


def _spread(columns: np.ndarray, about_mean: bool) -> np.ndarray:
    """Sds of columns, or root mean squares where no intercept takes up their means (or where they are constant)."""
    rms = np.sqrt(np.mean(columns**2, axis=0))
    if not about_mean:
        return rms
    sd = columns.std(axis=0, ddof=1)
    return np.where(sd > 1e-12 * rms, sd, rms)


def _means(columns: np.ndarray, wanted: bool) -> np.ndarray:
    """Column means, 0 for the intercept (the first column) and everywhere where centring is not wanted."""
    means = np.zeros(columns.shape[1])
    if wanted:
        means[1:] = columns[:, 1:].mean(axis=0)
    noise = 1e-13 * np.abs(columns).max(axis=0, initial=0.0)  # of columns that sum to 0, such as within(x)
    return np.where(np.abs(means) > noise, means, 0.0)


def _group_center(group: GroupDesign, wanted: bool) -> np.ndarray:
    """Means of the columns of correlated blocks with an intercept; elsewhere centring would change the model."""
    means = np.zeros(group.Z.shape[1])
    for block in group.blocks:
        if wanted and block.correlated and group.coefs[block.columns.start] == "Intercept":
            means[block.columns] = _means(group.Z[:, block.columns], True)
    return means


def _correlated(group: GroupDesign) -> bool:
    return any(block.correlated for block in group.blocks)


def _link_of_mean(design: Design, family: Family) -> float:
    """The link of the response's mean less the mean offset; a mean of all 0 or all 1 is taken as (Σy + ½)/(n + 1)."""
    total = float(design.trials.sum()) if design.trials is not None else float(design.n)
    mean = float(design.y.sum()) / total
    if not family.location and (mean == 0 or (mean == 1 and family.link.latent_variance)):
        mean = (float(design.y.sum()) + 0.5) / (total + 1)
    return float(family.link.forward(np.array(mean))) - float(design.offset.mean())


def _defaults(design: Design, family: Family, s: float) -> dict[str, Any]:
    """Default priors by key, on the centred scale; with s = sd(y), or 1 on a link scale."""
    found: dict[str, Any] = {}
    spread = _spread(design.X, design.has_intercept)
    for coef, sd in zip(design.coefs, spread, strict=True):
        if coef == "Intercept":
            found["beta[Intercept]"] = Prior("Normal", mu=_link_of_mean(design, family), sigma=2.5 * s)
        else:
            found[f"beta[{coef}]"] = Prior("Normal", mu=0, sigma=2.5 * s / sd)
    for group in design.groups:
        spread = _spread(group.Z, group.has_intercept)
        for block in group.blocks:
            for coef, sd in zip(group.coefs[block.columns], spread[block.columns], strict=True):
                unit = 1.0 if coef == "Intercept" else sd
                wide = FIXED_LOCATION * s if family.location else FIXED_LINK
                found[f"sd_{group.name}[{coef}]"] = (
                    float(wide) if block.fixed else Prior("HalfStudentT", nu=3, sigma=s / unit)
                )
        if _correlated(group):
            found[f"cor_{group.name}"] = Prior("LKJ", eta=2)
    return found | {name: prior(s) for name, prior in family.parameters.items()}


def _apply(chosen: dict[str, Any], priors: Mapping[str, Any], design: Design) -> dict[str, Any]:
    """Put the user's priors in the place of defaults: whole vectors first, then single coordinates."""
    if not isinstance(priors, Mapping):
        raise PriorError("priors is a mapping, as in priors={'sigma': hp.Prior('HalfNormal', sigma=1)}")
    fixed = {
        f"sd_{group.name}[{group.coefs[block.columns.start]}]"
        for group in design.groups
        for block in group.blocks
        if block.fixed
    }
    vectors = {"beta": [f"beta[{coef}]" for coef in design.coefs]}
    vectors |= {f"sd_{group.name}": [f"sd_{group.name}[{coef}]" for coef in group.coefs] for group in design.groups}
    result = dict(chosen)
    for key in sorted(priors, key=lambda key: key not in vectors):
        places = [key] if key in chosen else vectors.get(key, [])
        if not places:
            raise _unknown_key(key, chosen)
        if not is_number(priors[key]):  # beside fe(), "sd_g" means the sds that are estimated, if there are any
            places = [place for place in places if place not in fixed] or places
        for place in places:
            result[place] = _resolve(place, priors[key], place in fixed)
    return result


def _resolve(place: str, value: Any, is_fixed: bool) -> Prior | float:
    if place.startswith("sd_") and is_number(value):
        if not (np.isfinite(value) and value > 0):
            raise PriorError(f"{place} can be fixed at a positive number, not at {value!r}")
        return float(value)
    if is_fixed:
        raise PriorError(
            f"{place} belongs to fe(): its sd is a number, not a prior; for an sd that is estimated write (1 | factor)"
        )
    prior = as_prior(value, place)
    is_lkj = prior.name in ("LKJ", "LKJCorr", "LKJCholeskyCov")
    if is_lkj and not place.startswith("cor_"):
        raise PriorError(f"LKJ is a prior of correlations (cor_…), not of {place}")
    if place.startswith("cor_"):
        if not is_lkj or "eta" not in prior.values:
            raise PriorError(
                f"the prior of {place} is hp.Prior('LKJ', eta=…); other priors of correlations are not offered"
            )
        return Prior("LKJ", eta=prior.values["eta"])
    prior.check(place, positive=not place.startswith("beta["))
    return prior


def _unknown_key(key: Any, chosen: Mapping[str, Any]) -> PriorError:
    known = list(dict.fromkeys([k.split("[")[0] for k in chosen]))
    listed = ", ".join([*known, *(k for k in chosen if "[" in k)][:24])
    hint = did_you_mean(key, [*known, *chosen], repr)
    if str(key).startswith("b_"):
        hint = "; group effects have mean 0 by construction: their mean is a coefficient (beta[…]), their sd is sd_…"
    return PriorError(f"there is no prior for {key!r} in this model{hint}; the keys are: {listed}")


def _notes(design: Design, family: Family) -> tuple[str, ...]:
    notes = []
    if design.aliased:
        notes.append(f"left out as empty or surplus cells: {', '.join(design.aliased)}")
    for group in design.groups:
        fixed = any(block.fixed for block in group.blocks)
        if fixed and not family.location:
            notes.append(
                f"fe({group.name}) with a {family.name} response: with few rows per unit the coefficients are biased "
                "(incidental parameters); (1 | factor) with unit means of the regressors is the usual remedy"
            )
        if family.location and not fixed and group.rows.max() == 1:
            notes.append(f"every {group.name} has one row, so its sd and sigma are told apart by their priors alone")
    return tuple(notes)
