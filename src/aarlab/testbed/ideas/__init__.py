"""Classifies a method snapshot into one of the eleven families and measures its size.

Loads no numpy and no torch: the server calls it when a campaign is exported.
"""

from aarlab.testbed.ideas.classify import CLASSIFIER, idea_of

__all__ = ["CLASSIFIER", "idea_of"]
