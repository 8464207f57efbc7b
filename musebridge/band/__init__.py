"""The band's canvas: music of several families on a grid, and its way to MIDI files and pictures."""
