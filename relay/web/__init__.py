"""The faces that speak HTTP."""
