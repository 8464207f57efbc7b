"""Presets and the shipped model: data that the bridge plays with."""
