"""The catalogue of rules: what each is called, when it is asked, and what to do about it."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_analysis.catalogue.rules import RULES, rule

__all__ = ["RULES", "Category", "Rule", "Stage", "rule"]
