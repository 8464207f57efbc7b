"""The realtime bridge: MIDI and OSC in, a continuation out (needs no torch)."""
