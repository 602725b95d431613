"""What is assumed: families, priors, and the `ModelSpec` in which every choice is made."""

from hierpanel.spec.families import Family, Rows, family
from hierpanel.spec.model_spec import GroupSpec, ModelSpec, PanelSpec, build
from hierpanel.spec.priors import Prior

__all__ = ["Family", "GroupSpec", "ModelSpec", "PanelSpec", "Prior", "Rows", "build", "family"]
