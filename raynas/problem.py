"""What a user wants: the data, what to optimize, and the limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from raynas.errors import UserError
from raynas.objective import Constraint, Objective

Shape = tuple[int, int, int]


class InvalidProblem(UserError):
    """A problem with a wrong field; the message has one line per wrong field."""


def _objectives(value: Any) -> tuple[Objective, ...]:
    items = [value] if isinstance(value, str | Objective) else value
    if not isinstance(items, list | tuple) or not items:
        raise ValueError("expected a list such as ['accuracy:max', 'params:min']")
    parsed = tuple(_objective(o) for o in items)
    if len({o.name for o in parsed}) != len(parsed):
        raise ValueError("expected each objective once")
    if hidden := [o.name for o in parsed if o.name.startswith("test_")]:
        raise ValueError(
            f"a search must not see the test split: take {hidden[0].removeprefix('test_')!r}, "
            "which is measured on the validation split"
        )
    return parsed


def _objective(value: Any) -> Objective:
    if isinstance(value, Objective):
        return value
    if isinstance(value, Mapping):  # as `to_dict` wrote it
        return Objective(value["name"], value["direction"], value["unit"])
    return Objective.parse(str(value))


def _constraints(value: Any) -> tuple[Constraint, ...]:
    if isinstance(value, tuple) and all(isinstance(c, Constraint) for c in value):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping such as {'max_params': 50_000}")
    parsed = []
    for key, bound in value.items():
        sense, _, metric = str(key).partition("_")
        if sense not in ("min", "max") or not metric:
            raise ValueError(f"{key}: expected a name such as max_params or min_accuracy")
        if isinstance(bound, bool) or not isinstance(bound, int | float) or math.isnan(bound):
            raise ValueError(f"{key}: expected a number; got {bound!r}")
        parsed.append(Constraint(metric, sense, float(bound)))  # type: ignore[arg-type]
    return tuple(parsed)


class Problem(BaseModel):
    """A search problem. Wherever one is taken, a plain dict with the same keys works too.

    Attributes:
        task: the kind of problem.
        dataset: a name, a path, a PyTorch Dataset, or arrays (see `raynas.data.load`).
        objectives: such as `["accuracy:max", "params:min"]`.
        constraints: such as `{"max_params": 50_000}`; `target_device` may stand here too.
        input_shape: `(channels, height, width)`; None takes the data's.
        num_classes: None takes the data's.
        target_device: where the model will run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    task: Literal["image_classification"] = "image_classification"
    dataset: Any = "digits"
    objectives: Annotated[tuple[Objective, ...], BeforeValidator(_objectives)] = (
        Objective.parse("accuracy:max"),
        Objective.parse("params:min"),
    )
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(_constraints)] = ()
    input_shape: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field()] | None = None
    num_classes: Annotated[int, Field(ge=2)] | None = None
    target_device: Literal["cpu", "cuda", "mobile"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _device_may_stand_in_constraints(cls, data: Any) -> Any:
        constraints = data.get("constraints") if isinstance(data, dict) else None
        if not isinstance(constraints, Mapping) or "target_device" not in constraints:
            return data
        rest = {k: v for k, v in constraints.items() if k != "target_device"}
        if data.get("target_device") not in (None, constraints["target_device"]):
            raise ValueError("target_device is given twice, differently")
        return {**data, "constraints": rest, "target_device": constraints["target_device"]}

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidProblem(_explain(error)) from None
        if self.input_shape is not None and len(self.input_shape) != 3:
            raise InvalidProblem(
                f"input_shape: expected (channels, height, width); got {self.input_shape}."
            )

    @classmethod
    def of(cls, problem: Problem | Mapping[str, Any]) -> Problem:
        """A Problem from itself or from a plain dict.

        Raises:
            InvalidProblem: names every wrong field and what was expected there.
        """
        if isinstance(problem, Problem):
            return problem
        if not isinstance(problem, Mapping):
            raise InvalidProblem(
                f"expected a raynas.Problem or a dict with its keys; got {type(problem).__name__}."
            )
        return cls(**problem)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for run.json; `of` reads it back (own data leave only a description)."""
        return {
            "task": self.task,
            "dataset": self.dataset if isinstance(self.dataset, str) else "(own data)",
            "objectives": [vars(o) for o in self.objectives],
            "constraints": {f"{c.sense}_{c.metric}": c.bound for c in self.constraints},
            "input_shape": self.input_shape,
            "num_classes": self.num_classes,
            "target_device": self.target_device,
        }


def _explain(error: ValidationError) -> str:
    lines = []
    for e in error.errors():
        field = ".".join(str(part) for part in e["loc"]) or "problem"
        if e["type"] == "extra_forbidden":
            known = ", ".join(Problem.model_fields)
            lines.append(f"{field}: not a field of a problem. Expected one of {known}.")
        else:
            message = e["msg"].removeprefix("Value error, ").rstrip(".")
            got = "" if field == "problem" else f"; got {e['input']!r}"
            lines.append(f"{field}: {message}{got if '; got ' not in message else ''}.")
    return "\n".join(lines)
