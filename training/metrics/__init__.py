"""Metrics: likelihood, classification, distances, diversity and memorisation, with their intervals."""
