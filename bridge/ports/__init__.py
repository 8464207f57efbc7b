"""Ports: the MIDI systems, and the clock."""
