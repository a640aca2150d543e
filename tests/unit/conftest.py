"""How Hypothesis draws: the same examples in every run, and no clock, since machines may be busy."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("unit")
