"""Data: a folder of MIDI files to a packed corpus, and to windows of it."""
