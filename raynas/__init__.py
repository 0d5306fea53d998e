"""Neural architecture search that explains itself with evidence.

The public names are loaded when they are first used, so that `import raynas` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.api import audit, load, resume, search
    from raynas.architecture import Architecture, Decision
    from raynas.choices import choice, searchable
    from raynas.continuing import continue_with_feedback
    from raynas.design_session import CollaborativeDesignSession
    from raynas.errors import UserError
    from raynas.feasibility import preview
    from raynas.objective import Constraint, Objective
    from raynas.problem import Problem
    from raynas.resizing import elastic
    from raynas.result import SearchResult
    from raynas.space import Space

__version__ = "0.1.0"

_HOME = {
    "Architecture": "raynas.architecture",
    "CollaborativeDesignSession": "raynas.design_session",
    "Constraint": "raynas.objective",
    "Decision": "raynas.architecture",
    "Objective": "raynas.objective",
    "Problem": "raynas.problem",
    "SearchResult": "raynas.result",
    "Space": "raynas.space",
    "UserError": "raynas.errors",
    "audit": "raynas.api",
    "continue_with_feedback": "raynas.continuing",
    "choice": "raynas.choices",
    "elastic": "raynas.resizing",
    "load": "raynas.result",
    "preview": "raynas.feasibility",
    "resume": "raynas.api",
    "search": "raynas.api",
    "searchable": "raynas.choices",
}
__all__ = [
    "Architecture",
    "CollaborativeDesignSession",
    "Constraint",
    "Decision",
    "Objective",
    "Problem",
    "SearchResult",
    "Space",
    "UserError",
    "audit",
    "choice",
    "continue_with_feedback",
    "elastic",
    "load",
    "preview",
    "resume",
    "search",
    "searchable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raynas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
