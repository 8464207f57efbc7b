"""The panel: a page in the browser, served by a process of its own that speaks OSC alone."""
