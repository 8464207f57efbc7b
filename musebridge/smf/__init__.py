"""Standard MIDI Files, read as players read them: leniently, and never silently lossy."""
