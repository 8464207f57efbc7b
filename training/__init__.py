"""Training: from a folder of MIDI files to a generator (needs torch)."""
