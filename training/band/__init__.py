"""The band: multi-track systems on one canvas, their one trainer and what they are measured by."""
