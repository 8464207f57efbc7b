"""MuseBridge: play a phrase, and a transformer answers as live MIDI."""

__version__ = "0.1.0"
