"""Learning step by step, in memory that does not grow with the time."""

from jsnn.online.feedback import with_feedback
from jsnn.online.gathering import differentiable, gradient
from jsnn.online.learner import Learner, LearnerState
from jsnn.online.plan import Plan, make_plan
from jsnn.online.rules import RULES, Rule, decolle, eprop, ottt, rtrl, sltt

__all__ = [
    "RULES",
    "Learner",
    "LearnerState",
    "Plan",
    "Rule",
    "decolle",
    "differentiable",
    "eprop",
    "gradient",
    "make_plan",
    "ottt",
    "rtrl",
    "sltt",
    "with_feedback",
]
