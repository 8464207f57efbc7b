"""Computing: attention, precision, optimizers, and how work is shared among cores, processes and devices."""
