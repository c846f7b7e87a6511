"""Beam alone: thin transforms around the plain functions of the other packages, runners, and a local run's state."""
