"""relay: a webhook relay that turns "it failed" into "it recovered"."""

__version__ = "0.1.0"
